//! Tests of the consumer as a whole: inputs in, messages out.

mod model;
mod pulls;
mod pushes;
mod support;
