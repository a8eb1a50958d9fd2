//! The engine under scripted streams, by subject.

mod deadlines;
mod faults;
mod findings;
mod pressure;
mod script;
mod second_review;
mod second_review_low;
mod simulation;
mod stats;
mod topics;
