//! Why a publish is refused: the reference's codes and texts (spec jetstream/errors.tsv).

/// A refused publish. The text is the `description` of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("resource limits exceeded for account")]
    AccountResources,
    #[error("insufficient resources")]
    InsufficientResources,
    #[error("message size exceeds maximum allowed")]
    MessageTooLarge,
    #[error("expected stream does not match")]
    StreamNotMatch,
    #[error("wrong last msg ID: {0}")]
    WrongLastMessageId(String),
    #[error("wrong last sequence: {0}")]
    WrongLastSequence(u64),
    /// 10077 with the store's words.
    #[error("{0}")]
    StoreFailed(&'static str),
    #[error("header size exceeds maximum allowed of 64k")]
    HeaderTooLarge,
    #[error("invalid operation on sealed stream")]
    Sealed,
    #[error("{0}")]
    Rollup(String),
    #[error("duplicate message id is in process")]
    DuplicateInProcess,
    #[error("wrong last sequence")]
    WrongLastSequenceInFlight,
    #[error("invalid per-message TTL")]
    TtlInvalid,
    #[error("per-message TTL is disabled")]
    TtlDisabled,
    #[error("too many requests")]
    TooManyRequests,
    #[error("message counters is disabled")]
    CounterDisabled,
    #[error("message counter increment is missing")]
    CounterMissing,
    #[error("message counter has payload")]
    CounterPayload,
    #[error("message counter increment is invalid")]
    CounterInvalid,
    #[error("message counter is broken")]
    CounterBroken,
    #[error("atomic publish is disabled")]
    AtomicDisabled,
    #[error("atomic publish sequence is missing")]
    BatchMissingSequence,
    #[error("atomic publish batch is incomplete")]
    BatchIncomplete,
    #[error("atomic publish unsupported header used: {0}")]
    BatchUnsupportedHeader(&'static str),
    #[error("atomic publish batch ID is invalid")]
    BatchIdInvalid,
    #[error("JetStream minimum api level required")]
    RequiredApiLevel,
    #[error("message schedules is disabled")]
    SchedulesDisabled,
    #[error("message schedules pattern is invalid")]
    SchedulePattern,
    #[error("message schedules target is invalid")]
    ScheduleTarget,
    #[error("message schedules invalid per-message TTL")]
    ScheduleTtl,
    #[error("message schedules invalid rollup")]
    ScheduleRollup,
    #[error("message schedules source is invalid")]
    ScheduleSource,
    #[error("missing sequence for expected last sequence per subject")]
    MissingSubjectSequence,
    #[error("atomic publish batch is too large: {0}")]
    BatchTooLarge(u64),
    #[error("atomic publish batch commit is invalid")]
    BatchCommitInvalid,
    #[error("atomic publish batch contains duplicate message id")]
    BatchDuplicate,
    #[error("atomic publish too many inflight")]
    BatchTooManyInflight,
    #[error("batch publish is disabled")]
    FastDisabled,
    #[error("batch publish pattern is invalid")]
    FastPattern,
    #[error("batch publish ID is invalid")]
    FastIdInvalid,
    #[error("batch publish ID unknown")]
    FastUnknown,
    #[error("batch publish too many inflight")]
    FastTooManyInflight,
    #[error("message schedules invalid scheduler")]
    Scheduler,
    #[error("message schedules time zone is invalid")]
    ScheduleTimeZone,
    #[error("message stream source header is not allowed")]
    SourceHeader,
}

impl Refusal {
    /// `err_code` and the HTTP-like `code`.
    #[must_use]
    pub fn codes(&self) -> (u16, u16) {
        match self {
            Self::AccountResources => (10002, 400),
            Self::InsufficientResources => (10023, 503),
            Self::MessageTooLarge => (10054, 400),
            Self::StreamNotMatch => (10060, 400),
            Self::WrongLastMessageId(_) => (10070, 400),
            Self::WrongLastSequence(_) => (10071, 400),
            Self::StoreFailed(_) => (10077, 503),
            Self::HeaderTooLarge => (10097, 400),
            Self::Sealed => (10109, 400),
            Self::Rollup(_) => (10111, 500),
            Self::DuplicateInProcess => (10158, 409),
            Self::WrongLastSequenceInFlight => (10164, 400),
            Self::TtlInvalid => (10165, 400),
            Self::TtlDisabled => (10166, 400),
            Self::TooManyRequests => (10167, 429),
            Self::CounterDisabled => (10168, 400),
            Self::CounterMissing => (10169, 400),
            Self::CounterPayload => (10170, 400),
            Self::CounterInvalid => (10171, 400),
            Self::CounterBroken => (10172, 400),
            Self::AtomicDisabled => (10174, 400),
            Self::BatchMissingSequence => (10175, 400),
            Self::BatchIncomplete => (10176, 400),
            Self::BatchUnsupportedHeader(_) => (10177, 400),
            Self::BatchIdInvalid => (10179, 400),
            Self::RequiredApiLevel => (10185, 412),
            Self::SchedulesDisabled => (10188, 400),
            Self::SchedulePattern => (10189, 400),
            Self::ScheduleTarget => (10190, 400),
            Self::ScheduleTtl => (10191, 400),
            Self::ScheduleRollup => (10192, 400),
            Self::ScheduleSource => (10203, 400),
            Self::MissingSubjectSequence => (10193, 400),
            Self::BatchTooLarge(_) => (10199, 400),
            Self::BatchCommitInvalid => (10200, 400),
            Self::BatchDuplicate => (10201, 400),
            Self::BatchTooManyInflight => (10210, 429),
            Self::FastDisabled => (10205, 400),
            Self::FastPattern => (10206, 400),
            Self::FastIdInvalid => (10207, 400),
            Self::FastUnknown => (10208, 400),
            Self::FastTooManyInflight => (10211, 429),
            Self::Scheduler => (10212, 400),
            Self::ScheduleTimeZone => (10223, 400),
            Self::SourceHeader => (10227, 400),
        }
    }

    /// Refusals that promise nothing about state and therefore need not wait for what is in
    /// flight (hard-parts 5).
    #[must_use]
    pub fn promises_nothing(&self) -> bool {
        matches!(
            self,
            Self::DuplicateInProcess | Self::WrongLastSequenceInFlight | Self::TooManyRequests
        )
    }
}
