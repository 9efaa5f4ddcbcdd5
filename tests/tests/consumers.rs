//! Consumers over the wire: each scenario writes a transcript of what clients see, and ours must
//! be the reference's, word for word.

mod consumers {
    mod acks;
    pub(crate) mod client;
    mod control;
    mod creation;
    mod priority;
    mod pull;
    mod push;
    mod restart;
    mod retention;
    mod stop;
}
