//! Higher aberrations: what lenses do to the phases of an image beyond defocus, spherical aberration and beam tilt.
//!
//! They are sums of Zernike polynomials of the spatial frequency in 1/Å, not of a fraction of Nyquist, in the order of
//! RELION's rlnOddZernike and rlnEvenZernike: Z(1,-1), Z(1,1), Z(3,-3), Z(3,-1), …, and Z(0,0), Z(2,-2), Z(2,0), …,
//! without normalisation, of the sine for negative m. Odd ones turn the phases of the image by e^(iφ), and add to what a
//! beam tilt does; even ones add to the CTF's gamma. All of it was held against `relion_reconstruct` 3.1.3, one polynomial
//! after another.

/// Coefficients of the odd polynomials to the third order: all that RELION fits.
pub type Odd = [f64; 6];

/// Coefficients of the even polynomials to the fourth order.
pub type Even = [f64; 9];

/// The phase that these odd polynomials turn an image by at frequency (`x`, `y`).
pub fn odd_phase(of: &Odd, x: f64, y: f64) -> f64 {
    let (x2, y2) = (x * x, y * y);
    let coma = 3.0 * (x2 + y2) - 2.0;
    of[0] * y
        + of[1] * x
        + of[2] * (3.0 * x2 - y2) * y
        + of[3] * coma * y
        + of[4] * coma * x
        + of[5] * (x2 - 3.0 * y2) * x
}

/// What these even polynomials add to gamma at frequency (`x`, `y`).
pub fn even_phase(of: &Even, x: f64, y: f64) -> f64 {
    // Squared distance, and that times the cosine and the sine of twice the angle.
    let (r2, cos, sin) = (x * x + y * y, x * x - y * y, 2.0 * x * y);
    let astigmatism = 4.0 * r2 - 3.0;
    of[0]
        + of[1] * sin
        + of[2] * (2.0 * r2 - 1.0)
        + of[3] * cos
        + of[4] * 2.0 * sin * cos
        + of[5] * astigmatism * sin
        + of[6] * (6.0 * r2 * r2 - 6.0 * r2 + 1.0)
        + of[7] * astigmatism * cos
        + of[8] * (cos * cos - sin * sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The polynomial by its definition (Zernike 1934).
    fn zernike(n: u32, m: i32, x: f64, y: f64) -> f64 {
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let (rho, phi, k) = (libm::hypot(x, y), libm::atan2(y, x), m.unsigned_abs());
        let radial: f64 = (0..=(n - k) / 2)
            .map(|j| {
                let below = factorial(j) * factorial((n + k) / 2 - j) * factorial((n - k) / 2 - j);
                let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
                sign * factorial(n - j) / below * libm::pow(rho, f64::from(n - 2 * j))
            })
            .sum();
        let angle = f64::from(k) * phi;
        radial
            * if m < 0 {
                libm::sin(angle)
            } else {
                libm::cos(angle)
            }
    }

    fn one<const COUNT: usize>(at: usize) -> [f64; COUNT] {
        std::array::from_fn(|index| if index == at { 1.0 } else { 0.0 })
    }

    #[test]
    fn they_are_zernikes_polynomials_in_relions_order() {
        let order = |parity: u32, most: u32| {
            let orders = (parity..=most).step_by(2);
            orders.flat_map(|n| (0..=n).map(move |step| (n, 2 * step as i32 - n as i32)))
        };
        let points = [(0.1, 0.25), (-0.3, 0.02), (0.4, -0.7), (0.0, 0.0)];
        for (x, y) in points {
            assert_eq!(order(1, 3).count(), Odd::default().len());
            for (at, (n, m)) in order(1, 3).enumerate() {
                let off = odd_phase(&one(at), x, y) - zernike(n, m, x, y);
                assert!(off.abs() < 1e-12, "Z({n}, {m}) at {x}, {y}: {off}");
            }
            assert_eq!(order(0, 4).count(), Even::default().len());
            for (at, (n, m)) in order(0, 4).enumerate() {
                let off = even_phase(&one(at), x, y) - zernike(n, m, x, y);
                assert!(off.abs() < 1e-12, "Z({n}, {m}) at {x}, {y}: {off}");
            }
        }
    }
}
