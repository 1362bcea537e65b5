"""Makes particles.cs and passthrough_particles.cs with NumPy, from Euler angles drawn here.

The rotation vectors come from the matrices by another way than Dewar takes back: the product of three turns, and its
logarithm. Run from this folder: python make_cryosparc.py
"""
import numpy as np

n = 6
rng = np.random.default_rng(5)
angles = np.column_stack([rng.uniform(-180, 180, n), rng.uniform(5, 175, n), rng.uniform(-180, 180, n)])


def turn_z(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def turn_y(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def rotation_vector(matrix):
    angle = np.arccos((np.trace(matrix) - 1) / 2)
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    return axis / np.linalg.norm(axis) * angle


uid = rng.integers(2**62, 2**63, n, dtype="u8")
main = np.zeros(n, dtype=[
    ("uid", "<u8"), ("ctf/type", "S9"), ("ctf/exp_group_id", "<u4"), ("ctf/accel_kv", "<f4"), ("ctf/cs_mm", "<f4"),
    ("ctf/amp_contrast", "<f4"), ("ctf/df1_A", "<f4"), ("ctf/df2_A", "<f4"), ("ctf/df_angle_rad", "<f4"),
    ("ctf/phase_shift_rad", "<f4"), ("ctf/tilt_A", "<f4", (2,)), ("ctf/trefoil_A", "<f4", (2,)),
    ("ctf/tetra_A", "<f4", (4,)), ("ctf/anisomag", "<f4", (4,)), ("ctf/bfactor", "<f4"),
    ("alignments3D/split", "<u4"), ("alignments3D/shift", "<f4", (2,)), ("alignments3D/pose", "<f4", (3,)),
    ("alignments3D/psize_A", "<f4"),
])
main["uid"] = uid
main["ctf/type"] = b"imported"
main["ctf/exp_group_id"] = [3, 3, 7, 3, 7, 7]
main["ctf/accel_kv"], main["ctf/cs_mm"], main["ctf/amp_contrast"] = 200, 2.5, 0.125
main["ctf/df1_A"] = 12000 + 100 * np.arange(n)
main["ctf/df2_A"] = 11000 + 100 * np.arange(n)
main["ctf/df_angle_rad"] = np.pi / 6
main["ctf/phase_shift_rad"] = np.pi / 2
main["alignments3D/split"] = [0, 1, 0, 1, 0, 1]
main["alignments3D/shift"] = [[0.5 * i, -0.25 * i] for i in range(n)]
main["alignments3D/psize_A"] = 3.0
main["alignments3D/pose"] = [
    rotation_vector((turn_z(psi) @ turn_y(tilt) @ turn_z(rot)).T) for rot, tilt, psi in angles]
np.save(open("particles.cs", "wb"), main)

passed = np.zeros(n + 1, dtype=[
    ("uid", "<u8"), ("blob/path", "S30"), ("blob/idx", "<u4"), ("blob/shape", "<u4", (2,)), ("blob/psize_A", "<f4"),
    ("blob/sign", "<f4"), ("location/micrograph_path", "<U20"), ("location/center_x_frac", "<f4"),
])
passed["uid"] = [1, *uid]
passed["blob/path"] = [b"?"] + [b">J7/extract/one.mrc"] * 3 + [b"J7/extract/two.mrcs"] * 3
passed["blob/idx"] = [9, 0, 1, 2, 0, 1, 2]
passed["blob/shape"] = 8
passed["blob/psize_A"] = 1.5
passed["blob/sign"] = -1
passed["location/micrograph_path"] = [""] + [">J2/m1.mrc"] * 3 + ["J2/m2.mrc"] * 3
# Another order than the main file's.
np.save(open("passthrough_particles.cs", "wb"), passed[::-1])

for row in angles:
    print("[{:.4f}, {:.4f}, {:.4f}],".format(*row))
