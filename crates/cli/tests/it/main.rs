//! The real command, run as people and scripts run it.

mod asking;
mod book;
mod broker;
mod classify2d;
mod compare;
mod dewar;
mod doctor;
mod documented;
mod exit_codes;
mod fsc;
mod grpcurl;
mod help;
mod info;
mod lab;
mod limits;
mod postprocess;
mod precache;
mod refine;
mod rounds;
mod settings;
mod simulate;
mod terminal;
mod top;
