//! The command `dewar`: what microscopists and the people who run their machines type.
//!
//! One file a verb. Data goes to stdout, narration to stderr. Exit codes: 0 done, 1 the work failed, 2 the command
//! line or an input was wrong, 3 the broker was not reached.

mod broker;
mod clock;
mod computing;
mod confirm;
mod failure;
mod interrupt;
mod listing;
mod map_file;
mod output;
mod progress;
mod showing;
mod size;
mod table;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = dewar_settings::parse::<verbs::Arguments>("dewar");
    match verbs::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
