//! What measures Dewar and tries to break it; never shipped.
//!
//! `bench` gives figures with targets beside them; `chaos` kills, stops and cuts off real programs, and looks for what
//! should have come out. Both run the programs that lie beside the running one. `sim` does the like with everything but
//! queue and engine simulated, in virtual time.

pub mod bench;
pub mod chaos;
mod interrupt;
mod kills;
pub mod kinds;
mod lab;
pub mod sim;
