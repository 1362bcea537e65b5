"""Makes this folder's files with RELION 3.1.3, from an asymmetric map given as the only argument (casx_128.mrc.gz, 1.6 A).

Needs mrcfile, NumPy and RELION's programs. Run from this folder: python make.py MAP
"""
import gzip
import os
import subprocess
import sys
import tempfile

import mrcfile
import numpy as np

BOX, PIXEL, COUNT = 48, 4.0, 1500
OPTICS = {
    "plain": {},
    "distorted": {
        "rlnBeamTiltX": 25.0, "rlnBeamTiltY": -15.0,
        "rlnMagMat00": 1.05, "rlnMagMat01": 0.03, "rlnMagMat10": -0.02, "rlnMagMat11": 0.97,
    },
}
FOLDER = os.getcwd()


def star(name, optics, rows):
    columns = {
        "rlnOpticsGroup": 1, "rlnOpticsGroupName": "opticsGroup1", "rlnVoltage": 300, "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1, "rlnImagePixelSize": PIXEL, "rlnImageSize": BOX, "rlnImageDimensionality": 2, **optics,
    }
    labels = ["rlnImageName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnAngleRot",
              "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]
    with open(name, "w") as f:
        f.write("# version 30001\n\ndata_optics\n\nloop_\n" + "".join(f"_{c}\n" for c in columns))
        f.write(" ".join(map(str, columns.values())) + "\n\n# version 30001\n\ndata_particles\n\nloop_\n")
        f.write("".join(f"_{label}\n" for label in labels))
        for i, row in enumerate(rows):
            f.write(f"{i + 1:06}@particles.mrcs 1 " + " ".join(f"{value:.2f}" for value in row) + "\n")


def in_half_floats(name, kept):
    """Keeps a map in as many digits as half floats have, and the same values in the map itself."""
    values = mrcfile.read(name).astype("f8")
    halves = (values / np.abs(values).max()).astype("f2")
    for path, kind in [(name, "f4"), (kept, "f2")]:
        with mrcfile.new(path, overwrite=True) as f:
            f.set_data(halves.astype(kind))
            f.voxel_size = PIXEL


def run(*words):
    subprocess.run(list(words), check=True, stdout=subprocess.DEVNULL)


rng = np.random.default_rng(7)
rows = np.column_stack([
    rng.uniform(9000, 16000, COUNT), rng.uniform(7000, 9000, COUNT), rng.uniform(0, 180, COUNT),
    rng.uniform(-180, 180, COUNT), np.degrees(np.arccos(rng.uniform(-1, 1, COUNT))), rng.uniform(-180, 180, COUNT),
    rng.uniform(-15, 15, COUNT), rng.uniform(-15, 15, COUNT),
])
given = os.path.abspath(sys.argv[1])
with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    with gzip.open(given) as packed, open("large.mrc", "wb") as large:
        large.write(packed.read())
    run("relion_image_handler", "--i", "large.mrc", "--o", "map.mrc", "--angpix", "1.6", "--rescale_angpix", str(PIXEL),
        "--new_box", str(BOX))
    in_half_floats("map.mrc", f"{FOLDER}/map.mrc")
    # Projections, of the first particles only, without a CTF and a shift, and with both.
    bare = rows[:8].copy()
    bare[:, 6:] = 0
    star("bare.star", {}, bare)
    run("relion_project", "--i", "map.mrc", "--ang", "bare.star", "--o", "projections", "--pad", "2", "--angpix", str(PIXEL))
    star("plain.star", {}, rows)
    run("relion_project", "--i", "map.mrc", "--ang", "plain.star", "--o", "all", "--pad", "2", "--ctf", "--angpix", str(PIXEL))
    os.rename("all.mrcs", "particles.mrcs")
    run("cp", "projections.mrcs", FOLDER)
    for name, optics in OPTICS.items():
        star(f"{name}.star", optics, rows)
        run("relion_reconstruct", "--i", f"{name}.star", "--o", f"{name}.mrc", "--ctf", "--pad", "2",
            "--skip_gridding")
        values = mrcfile.read(f"{name}.mrc").astype("f2")
        with mrcfile.new(f"{FOLDER}/{name}.mrc", overwrite=True) as f:
            f.set_data(values)
            f.voxel_size = PIXEL
    # Poses once: the sets differ by their optics alone.
    run("cp", "plain.star", f"{FOLDER}/particles.star")
