//! What JetStream's clients and the server say to each other: configurations, their defaults and
//! their rules, and the states that are reported. Pure values and functions; nothing here knows
//! the engine (`engine.rs`) or how requests are addressed (`api`).

mod consumer_config;
mod consumer_defaults;
mod consumer_rules;
mod context;
mod enums;
mod info;
pub mod json;
mod metadata;
pub mod names;
mod source_rules;
mod stream_config;
mod stream_rules;
mod timestamp;
mod unsupported;

pub use consumer_config::{ConsumerAction, ConsumerConfig, ConsumerCreateRequest};
pub use consumer_rules::{
    CheckedConsumer, ConsumerAddress, ConsumerContext, ExistingConsumer, check_consumer,
    check_consumer_address, is_valid_group_name,
};
pub use context::{StreamContext, StreamDirectory};
pub use enums::{
    AckPolicy, Compression, DeliverPolicy, DiscardPolicy, PersistMode, PriorityPolicy,
    ReplayPolicy, RetentionPolicy, StorageKind,
};
pub use info::{
    AccountApiStats, AccountInfo, AccountLimits, AccountTier, ClusterInfo, ConsumerInfo, LostData,
    PeerInfo, PriorityGroupState, ReportedError, SequenceInfo, SourceInfo, StreamAlternate,
    StreamInfo, StreamState,
};
pub use metadata::{
    API_LEVEL, REFERENCE_VERSION, consumer_api_level, remove_dynamic_metadata, set_required_level,
    stream_api_level, with_dynamic_metadata,
};
pub use stream_config::{
    ConsumerLimits, ExternalStream, Placement, Republish, SourceConsumer, StreamConfig,
    StreamSource, SubjectTransformConfig,
};
pub use stream_rules::{CheckedCreate, check_create, check_update};
pub use timestamp::Timestamp;
pub use unsupported::unsupported;
