//! What can be said only when every row has been read: whether boxes and pixel sizes agree, and
//! what is odd about the set as a whole.

use super::{Findings, Reader};
use crate::particles::{Particle, ParticleSet, ProblemKind};
use crate::star::Document;

impl Reader<'_> {
    pub(super) fn finish(mut self, document: Document) -> Findings {
        self.gather_stack_problems();
        self.check_boxes();
        self.check_pixel_sizes();
        self.add_warnings();
        let box_size_px = self
            .stacks
            .found
            .first()
            .map_or(0, |stack| stack.size_px[0]);
        let pixel_size_angstrom = self
            .optics
            .first()
            .map_or(0.0, |group| group.pixel_size_angstrom);
        let set = ParticleSet {
            path: self.path.to_owned(),
            stacks: self.stacks.found,
            optics: self.optics,
            particles: self.particles,
            micrographs: self.micrographs,
            box_size_px,
            pixel_size_angstrom,
            warnings: self.warnings,
            document,
            particle_block: self.particle_block,
            optics_block: self.optics_block,
        };
        Findings {
            set,
            problems: self.problems,
        }
    }

    pub(super) fn gather_stack_problems(&mut self) {
        if let Some(missing) = self.stacks.missing() {
            self.report(None, missing);
        }
        for (line, problem) in std::mem::take(&mut self.stacks.problems) {
            self.report(line, problem);
        }
    }

    pub(super) fn check_boxes(&mut self) {
        let Some(first) = self.stacks.found.first() else {
            return;
        };
        let (found_px, stack) = (first.size_px[0], first.name.clone());
        for index in 0..self.optics.len() {
            let group = &mut self.optics[index];
            if group.box_size_px == 0 {
                group.box_size_px = found_px;
            }
            let (expected_px, number) = (group.box_size_px, group.number);
            let is_used = self
                .particles
                .iter()
                .any(|particle| particle.optics_index == index);
            if is_used && expected_px != found_px {
                let reference = format!("_rlnImageSize of optics group {number}");
                let stack = stack.clone();
                self.report(
                    None,
                    ProblemKind::BoxSizesDiffer {
                        stack,
                        found_px,
                        expected_px,
                        reference,
                    },
                );
            }
        }
    }

    pub(super) fn check_pixel_sizes(&mut self) {
        let Some((first, others)) = self.optics.split_first() else {
            return;
        };
        let expected_angstrom = first.pixel_size_angstrom;
        let differing = others
            .iter()
            .find(|group| differ(group.pixel_size_angstrom, expected_angstrom));
        if let Some(group) = differing {
            let kind = ProblemKind::PixelSizesDiffer {
                group: group.number,
                found_angstrom: group.pixel_size_angstrom,
                expected_angstrom,
                first: first.number,
            };
            self.report(None, kind);
        }
    }

    pub(super) fn add_warnings(&mut self) {
        let path = self.path.display().to_string();
        if self.repeated_count > 0 {
            self.warnings.push(format!(
                "{path}: {} images appear more than once",
                self.repeated_count
            ));
        }
        let implausible = |p: &&Particle| p.ctf.defocus_u_angstrom.abs() < 100.0;
        let count = self.particles.iter().filter(implausible).count();
        if count > 0 {
            self.warnings.push(format!(
                "{path}: {count} particles have a defocus below 100 A (is it in another unit?)"
            ));
        }
        if let Some(group) = self.optics.first() {
            let ours = group.pixel_size_angstrom;
            for (stack, theirs) in self
                .stacks
                .found
                .iter()
                .zip(&self.stacks.header_pixel_sizes)
            {
                // 1 A is what RELION and others write when they do not know.
                if let Some(theirs) = theirs.map(f64::from).filter(|size| *size != 1.0)
                    && (theirs / ours - 1.0).abs() > 0.01
                {
                    self.warnings.push(format!(
                        "{}: the header has a pixel size of {theirs:.4} A, {path} has {ours:.4} A, which counts",
                        stack.path.display()
                    ));
                }
            }
        }
        self.warnings.append(&mut self.stacks.warnings);
    }
}

/// Whether two pixel sizes are more apart than rounding in a file explains.
fn differ(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() > 1e-3
}
