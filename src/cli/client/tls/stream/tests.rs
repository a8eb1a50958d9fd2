//! One connection on a scripted stream.
