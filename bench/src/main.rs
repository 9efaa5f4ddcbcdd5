//! Placeholder until the bench is built.

fn main() {}
