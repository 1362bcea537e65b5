//! What a refinement found, drawn: plain figures in, pictures and one page out.
//!
//! Nothing here reads or writes a file, knows the time, or depends on another of our crates: who refines hands over
//! numbers and grey values, and puts what comes back where it belongs. The page stands alone: no script, no network, every
//! picture inside.

mod chart;
mod curves;
mod figures;
mod grey;
mod map;
mod page;
mod picture;
mod poses;
mod rounds;
mod sky;

pub use figures::{
    Figures, Fsc, Guinier, Line, MapViews, Masked, ParticleView, Poses, Round, StageTimes, Worker,
};
pub use grey::{Grey, GreyError};
pub use page::{Doing, Fact, Page, Running, Section, Stage};
pub use picture::{Broken, Content, Picture, Table};
pub use sky::Sky;

/// Every picture that the figures allow, in the order of the page.
pub fn pictures(figures: &Figures) -> Vec<Result<Picture, Broken>> {
    let mut drawn = Vec::new();
    drawn.extend(figures.fsc.as_ref().map(curves::fsc));
    drawn.extend(figures.guinier.as_ref().map(curves::guinier));
    drawn.extend(figures.map.iter().flat_map(map::pictures));
    drawn.extend(figures.poses.as_ref().map(poses::directions));
    drawn.extend(rounds::pictures(&figures.rounds, figures.final_stages));
    drawn.extend(figures.poses.iter().flat_map(poses::histograms));
    drawn.extend(map::particles(&figures.particles));
    drawn.extend(rounds::workers(&figures.workers));
    drawn
}
