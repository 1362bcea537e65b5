//! Does this machine compute right? Known answers, before it joins a fleet whose results depend on every member.
//!
//! Overclocked memory, a broken core and a miscompiled library are rare, but one wrong shard spoils a map for all. It
//! takes less than a millisecond and finds what is always wrong, not what is wrong now and then.

use crate::SelfTest;
use dewar_compute::{
    fft::{RealFft2, half_plane_len},
    orientation::Rotation,
    reconstruct::{Accumulator, GridShape, Insertion},
};
use dewar_task::{Context, Kernel, Product, RunError};
use num_complex::Complex32;
use std::f32::consts::FRAC_1_SQRT_2;

/// Edge of the images.
const N: usize = 8;

/// CRC-32C of the sums of [`inserted`] on every machine of the class x86-64-v3.
const INSERTED_CRC32C: u32 = 0xb419_5994;

pub(crate) fn self_test() -> Result<(), String> {
    check_transform()?;
    if is_x86_64_v3() {
        let found = crc32c::crc32c(&inserted()?);
        if found != INSERTED_CRC32C {
            return Err(format!(
                "a particle's sums have the check value {found:08x} and not {INSERTED_CRC32C:08x}"
            ));
        }
    }
    Ok(())
}

/// Bytes of inputs that are given back: more would be a transfer of its own.
const ECHO_BYTES_MAX: u64 = 64 << 20;

impl Kernel for SelfTest {
    // Who asks wants to hear it of a worker, and not what one said before.
    const DETERMINISTIC: bool = false;

    fn run(&self, (): (), context: &Context) -> Result<Product<()>, RunError> {
        self_test().map_err(RunError::Kernel)?;
        let mut blobs = Vec::new();
        let mut echoed_bytes = 0;
        for index in 0..context.input_count() {
            context.check()?;
            let input = context.input(index)?;
            echoed_bytes += input.size_bytes();
            if echoed_bytes > ECHO_BYTES_MAX {
                return Err(RunError::BadInput(format!(
                    "the inputs have more than {ECHO_BYTES_MAX} bytes"
                )));
            }
            blobs.push(input.read_all()?);
        }
        Ok(Product { message: (), blobs })
    }
}

/// A point at (1, 2) from the centre has the transform exp(-2πi (kx + 2 ky) / 8): multiples of an eighth of a turn.
fn check_transform() -> Result<(), String> {
    const S: f32 = FRAC_1_SQRT_2;
    const COSINES: [f32; 8] = [1.0, S, 0.0, -S, -1.0, -S, 0.0, S];
    let mut image = [0.0; N * N];
    image[(N / 2 + 2) * N + N / 2 + 1] = 1.0;
    let mut half = [Complex32::ZERO; half_plane_len(N)];
    let mut transform = RealFft2::new(N).map_err(|error| error.to_string())?;
    transform.forward(&image, &mut half);
    for (index, found) in half.iter().enumerate() {
        let (kx, ky) = (index % (N / 2 + 1), index / (N / 2 + 1));
        let eighths = (kx + 2 * ky) % 8;
        // The sine of an angle is the cosine of a quarter turn less.
        let expected = Complex32::new(COSINES[eighths], -COSINES[(eighths + 6) % 8]);
        if (found - expected).norm() > 1e-6 {
            return Err(format!(
                "the transform of a point is {found} at ({kx}, {ky}) and not {expected}"
            ));
        }
    }
    Ok(())
}

/// One particle of fixed pixels, inserted at a fixed pose.
fn inserted() -> Result<Vec<u8>, String> {
    let shape = GridShape::new(N, N / 2 - 1, 2.0).map_err(|error| error.to_string())?;
    let mut sums = Accumulator::new(shape);
    let pixel = |index: usize| (index * 37 % 101) as f32 / 101.0 - 0.5;
    let image: Vec<_> = (0..half_plane_len(N))
        .map(|index| Complex32::new(pixel(index), pixel(index + 50)))
        .collect();
    let ctf: Vec<_> = (0..half_plane_len(N)).map(pixel).collect();
    sums.insert(&Insertion {
        image: &image,
        ctf: &ctf,
        is_multiplied: false,
        inverse_sigma2: &[0.5; N / 2 + 1],
        rotation: &Rotation::from_euler_deg(30.0, 50.0, 70.0),
        shift_px: [0.3, -0.7],
        weight: 0.9,
    });
    Ok(sums.to_bytes())
}

fn is_x86_64_v3() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_computes_right() {
        assert_eq!(super::self_test(), Ok(()));
    }
}
