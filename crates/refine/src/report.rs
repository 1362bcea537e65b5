//! `report.html` and the pictures in it: gathered from what a refinement knows, drawn by `dewar-report`, written whole.

mod facts;
mod gather;
mod particles;

use crate::{
    checkpoint::State, error::RefineError, input::Prepared, options::Options, outputs::Ending,
    postprocess::Found, record::InputDigests,
};
use dewar_compute::volume::Volume;
use dewar_formats::atomic::{self, WriteError};
use dewar_report::{Figures, Page, Picture, Stage};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The page.
pub const FILE: &str = "report.html";

/// The folder of its pictures.
pub const PICTURES: &str = "pictures";

/// What a report is made of.
pub struct Source<'a> {
    /// What the user stated.
    pub options: &'a Options,
    /// What was read.
    pub prepared: &'a Prepared,
    /// Of what files.
    pub digests: &'a InputDigests,
    /// After the last round.
    pub state: &'a State,
    /// Of all particles.
    pub map: &'a Volume,
    /// Of the half-maps, unmasked.
    pub fsc: &'a [f64],
    /// How it ended, once it has.
    pub ending: Option<&'a Ending<'a>>,
}

impl Source<'_> {
    fn stage(&self) -> Stage {
        match self.ending {
            Some(_) => Stage::Finished,
            None => Stage::Running {
                round: self.state.iteration,
                rounds_max: self.options.settings.iterations_max,
            },
        }
    }

    fn box_angstrom(&self) -> f64 {
        self.prepared.set.box_size_px as f64 * self.prepared.set.pixel_size_angstrom
    }
}

/// Writes the page and its pictures. Gives what could not be drawn.
///
/// # Errors
/// If the disk refuses.
pub fn write(source: &Source<'_>) -> Result<Vec<String>, RefineError> {
    let out = &source.options.out;
    let mut problems = Vec::new();
    let figures = gather::figures(source, &mut problems);
    let pictures = drawn(&figures, &mut problems);
    write_pictures(&out.join(PICTURES), &pictures)?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let page = Page {
        title: facts::title(source),
        stage: source.stage(),
        written_at: now.to_string(),
        results: facts::results(source),
        warnings: facts::warnings(source),
        pictures,
        sections: facts::sections(source),
    };
    let html = page.to_html();
    atomic::write(&out.join(FILE), |file| file.write_all(html.as_bytes()))?;
    Ok(problems)
}

/// Draws what post-processing found into a folder's own folder of pictures. Gives what could not be drawn.
///
/// # Errors
/// If the disk refuses.
pub fn write_postprocessed(
    out: &Path,
    found: &Found,
    pixel_size_angstrom: f64,
) -> Result<Vec<String>, WriteError> {
    let mut problems = Vec::new();
    let figures = gather::of_postprocessed(found, pixel_size_angstrom);
    write_pictures(&out.join(PICTURES), &drawn(&figures, &mut problems))?;
    Ok(problems)
}

fn drawn(figures: &Figures, problems: &mut Vec<String>) -> Vec<Picture> {
    let mut whole = Vec::new();
    for drawn in dewar_report::pictures(figures) {
        match drawn {
            Ok(picture) => whole.push(picture),
            Err(broken) => problems.push(broken.to_string()),
        }
    }
    whole
}

/// Writes each picture as a file of its own.
///
/// # Errors
/// If the disk refuses.
pub fn write_pictures(folder: &Path, pictures: &[Picture]) -> Result<(), WriteError> {
    let refused = |path: PathBuf| move |source| WriteError { path, source };
    fs::create_dir_all(folder).map_err(refused(folder.to_owned()))?;
    for picture in pictures {
        let path = folder.join(picture.file_name());
        // Not forced to disk, as maps are: what a crash takes is drawn again.
        let whole = path.with_extension("tmp");
        fs::write(&whole, picture.file_bytes())
            .and_then(|()| fs::rename(&whole, &path))
            .map_err(refused(path))?;
    }
    Ok(())
}
