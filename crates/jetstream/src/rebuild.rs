//! Making the list of streams whole again after damage to the meta group's log. Every stream's group
//! says for itself whose it is and what it is like (`stream/checkpoint.rs`), so the list can be
//! compared with the groups that the journal holds. What is found is logged in the meta group like
//! any other change; only then is the stream there.

use bytes::Bytes;

use crate::engine::JetStream;
use crate::entry::MetaOperation;
use crate::ids::{GroupId, StreamId};
use crate::io::{Effect, LogLevel};
use crate::stream::Identity;

/// What a group that the list of streams does not have is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// A stream whose creation was lost: it will be in the list again.
    Rebuilt,
    /// What is left of a stream that was deleted.
    Deleted,
    /// Nothing can be made of it; it is kept.
    Unknown,
}

/// For the rooms around, once the meta group leads and before the API answers.
impl JetStream {
    /// The checkpoint that a new stream's group begins with. `None`: no such stream.
    #[must_use]
    pub fn first_checkpoint(&self, group: GroupId) -> Option<Bytes> {
        let stream = self.streams.get(&StreamId::from(group))?;
        Some(stream.first_checkpoint())
    }

    /// A group of this number existed: the number is not given again.
    pub fn group_was_used(&mut self, group: GroupId) {
        self.meta.next_group = self.meta.next_group.max(group.0 + 1);
    }

    /// Looks at a group that is in the journal and not in the list of streams. `damaged`: entries of
    /// the meta group are lost, so that the list may be wrong.
    pub fn stray_group(
        &mut self,
        group: GroupId,
        checkpoint: Option<&Bytes>,
        damaged: bool,
        effects: &mut Vec<Effect>,
    ) -> Stray {
        self.group_was_used(group);
        if self.meta.streams.contains_key(&group.0) || !self.meta.is_leader {
            return Stray::Unknown;
        }
        if !damaged || group.0 < self.meta.known_below {
            return Stray::Deleted;
        }
        let Some(Ok(identity)) = checkpoint.map(Identity::read) else {
            return Stray::Unknown;
        };
        let Ok(config) = serde_json::from_slice::<crate::model::StreamConfig>(&identity.config)
        else {
            return Stray::Unknown;
        };
        let owner = String::from_utf8_lossy(&identity.account);
        let mut owners = self.accounts.values();
        let taken = owners
            .find(|account| account.name == owner)
            .is_none_or(|account| {
                let holder = account.streams.get(&config.name);
                holder.is_some_and(|holder| !self.meta.deletes(holder.0))
            });
        if taken {
            return Stray::Unknown;
        }
        effects.push(Effect::Log {
            level: LogLevel::Warning,
            text: format!(
                "JetStream stream '{}' was missing in the damaged list of streams and is in it again",
                config.name
            ),
        });
        self.meta.stage_own(MetaOperation::Create {
            group: group.0,
            created_ns: identity.created_ns,
            account: identity.account,
            config: identity.config,
        });
        Stray::Rebuilt
    }

    /// A stream is in the list and the journal says that its group ended: its deletion was lost.
    pub fn group_is_gone(&mut self, group: GroupId, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get(&StreamId::from(group)) else {
            return;
        };
        if !self.meta.is_leader || !self.meta.streams.contains_key(&group.0) {
            return;
        }
        let text = format!(
            "JetStream stream '{}' is in the damaged list of streams and was deleted",
            stream.name
        );
        effects.push(Effect::Log {
            level: LogLevel::Warning,
            text,
        });
        self.meta
            .stage_own(MetaOperation::Delete { group: group.0 });
    }
}
