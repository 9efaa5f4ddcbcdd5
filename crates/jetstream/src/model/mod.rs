//! What JetStream's clients and the server say to each other: configurations, their defaults and
//! their rules, and the states that are reported. Pure values and functions; nothing here knows
//! the engine (`engine.rs`) or how requests are addressed (`api`).

mod consumer_config;
mod enums;
mod info;
pub mod json;
mod metadata;
pub mod names;
mod stream_config;
mod timestamp;
mod unsupported;

pub use consumer_config::{ConsumerAction, ConsumerConfig, ConsumerCreateRequest};
pub use enums::{
    AckPolicy, Compression, DeliverPolicy, DiscardPolicy, PersistMode, PriorityPolicy,
    ReplayPolicy, RetentionPolicy, StorageKind,
};
pub use info::{
    AccountApiStats, AccountInfo, AccountLimits, ClusterInfo, ConsumerInfo, LostData, PeerInfo,
    PriorityGroupState, SequenceInfo, SourceInfo, StreamAlternate, StreamInfo, StreamState,
};
pub use metadata::{
    API_LEVEL, REFERENCE_VERSION, consumer_api_level, remove_dynamic_metadata, set_required_level,
    stream_api_level, with_dynamic_metadata,
};
pub use stream_config::{
    ConsumerLimits, ExternalStream, Placement, Republish, SourceConsumer, StreamConfig,
    StreamSource, SubjectTransformConfig,
};
pub use timestamp::Timestamp;
pub use unsupported::{unsupported, unsupported_consumer};
