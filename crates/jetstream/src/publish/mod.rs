//! Publishing into a stream: header checks in the reference's orders, and the answers.

mod ack;
pub mod checks;
pub mod copies;
mod headers;
pub mod order;
mod refusal;
mod schedules;

pub use ack::{AckPrefix, PublishAnswer, put_json_string};
pub use checks::{Allowance, Check, CheckFunction, Verdict};
pub use headers::{
    PublishHeaders, for_each_line, header_value, parse_number, with_header, without_header,
    without_status,
};
pub use refusal::Refusal;
