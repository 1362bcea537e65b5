//! Pictures of grey values: the map, and particles beside what it looks like from where they were found.

use crate::{Broken, Content, Grey, MapViews, ParticleView, Picture, Table, curves::broken, grey};

/// The names, and the axes along which one looks.
const SLICES: [(&str, &str); 3] = [("slice_z", "z"), ("slice_y", "y"), ("slice_x", "x")];
const PROJECTIONS: [(&str, &str); 3] = [
    ("projection_z", "z"),
    ("projection_y", "y"),
    ("projection_x", "x"),
];

/// Particles in one row of the picture.
const TILES: usize = 6;

/// Three slices and three projections.
pub(crate) fn pictures(views: &MapViews) -> Vec<Result<Picture, Broken>> {
    let slices = SLICES
        .into_iter()
        .zip(&views.slices)
        .map(|((name, axis), grey)| {
            let title = format!("Slice across {axis}");
            let side = side_angstrom(grey, views.pixel_size_angstrom);
            let caption = format!(
                "Through the centre, seen along {axis}; {side:.0} Å wide, dense is white. Good: the particle is clear of the \
                 edges, and flat grey surrounds it."
            );
            of(name, title, caption, grey, views.pixel_size_angstrom)
        });
    let projections =
        PROJECTIONS
            .into_iter()
            .zip(&views.projections)
            .map(|((name, axis), grey)| {
                let title = format!("Projection along {axis}");
                let side = side_angstrom(grey, views.pixel_size_angstrom);
                let caption = format!(
                    "The map summed along {axis}; {side:.0} Å wide. Good: it is like a class average of that view, without \
                     streaks."
                );
                of(name, title, caption, grey, views.pixel_size_angstrom)
            });
    slices.chain(projections).collect()
}

fn of(
    name: &'static str,
    title: String,
    caption: String,
    grey: &Grey,
    pixel_size_angstrom: f64,
) -> Result<Picture, Broken> {
    let png = grey::png(grey.width(), &grey.levels()).map_err(|error| broken(name, error))?;
    let side_angstrom = side_angstrom(grey, pixel_size_angstrom);
    Ok(Picture {
        name,
        alt: format!("{title} of the map, {side_angstrom:.0} Å wide, dense parts white"),
        title,
        caption,
        content: Content::Png(png),
        table: None,
    })
}

fn side_angstrom(grey: &Grey, pixel_size_angstrom: f64) -> f64 {
    grey.width() as f64 * pixel_size_angstrom
}

/// Some particles above their reprojections; none without particles.
pub(crate) fn particles(views: &[ParticleView]) -> Option<Result<Picture, Broken>> {
    let rows: Vec<Vec<&Grey>> = views
        .chunks(TILES)
        .flat_map(|views| {
            let of = |pick: fn(&ParticleView) -> &Grey| views.iter().map(pick).collect();
            [of(|view| &view.particle), of(|view| &view.reprojection)]
        })
        .collect();
    let (width, levels) = grey::tiled(&rows)?;
    let mut table = Table::new(["place", "particle", "weight"]);
    for (at, view) in views.iter().enumerate() {
        table.row([
            (at + 1).to_string(),
            view.number.to_string(),
            format!("{:.3}", view.weight),
        ]);
    }
    let picture = grey::png(width, &levels).map(|png| Picture {
        name: "particles",
        title: "Particles and their reprojections".to_owned(),
        caption: "Each upper row: particles from all over the file, noise filtered off. Below each, the map's projection at \
                  the pose found, as the microscope would have shown it. Good: the two have the same outline in the same place. \
                  Where none are alike, check the pixel size, the contrast and the CTF."
            .to_owned(),
        alt: format!(
            "{} particles, each above the map's projection at its pose",
            views.len()
        ),
        content: Content::Png(png),
        table: Some(table),
    });
    Some(picture.map_err(|error| broken("particles", error)))
}
