"""Squares numbers on a Dewar broker's workers: python squares.py HOST:PORT TOKEN_FILE PROTO_DIR NUMBER..."""
import os, sys, time
import grpc

address, token_file, proto_dir, *numbers = sys.argv[1:]
sys.path.insert(0, proto_dir)
jobs_pb2, jobs_grpc = grpc.protos_and_services("dewar/v1/jobs.proto")
task_pb2 = grpc.protos("dewar/v1/task.proto")
from google.protobuf.wrappers_pb2 import UInt32Value

jobs = jobs_grpc.JobsStub(grpc.insecure_channel(address))
token = [("authorization", "Bearer " + open(token_file).read().strip())]

# A UUIDv7: 48 bits of milliseconds, version 7, variant 2, the rest at random. The customer chooses it, so that
# every call can be repeated until it is answered.
job_id = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
job_id[6], job_id[8] = job_id[6] & 0x0F | 0x70, job_id[8] & 0x3F | 0x80
job_id = bytes(job_id)

create = jobs_pb2.CreateJobRequest(job_id=job_id, name="squares from Python")
create.protocol.major = 1
job = jobs.Create(create, metadata=token)

def task(number):
    parameters = UInt32Value(value=int(number)).SerializeToString()
    return task_pb2.TaskSpec(
        kind=task_pb2.Kind(name="example.square", version=1),
        parameters=task_pb2.Payload(inline=parameters),
    )

submit = jobs_pb2.SubmitRequest(job_id=job_id, first_index=0, tasks=map(task, numbers))
jobs.Submit(iter([submit]), metadata=token)
jobs.Close(jobs_pb2.CloseJobRequest(job_id=job_id), metadata=token)

for outcome in jobs.Watch(jobs_pb2.WatchRequest(job_id=job_id), metadata=token):
    match outcome.WhichOneof("result"):
        case "succeeded":
            square = UInt32Value.FromString(outcome.succeeded.message.inline)
            print(f"j{job.number}.{outcome.task_index}: {numbers[outcome.task_index]} squared is {square.value}")
        case "failed":
            print(f"j{job.number}.{outcome.task_index}: {outcome.failed.message}")
