//! Publishing into a stream: header checks in the reference's orders, and the answers.
