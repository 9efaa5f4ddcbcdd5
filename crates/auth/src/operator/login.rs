//! A user's token against everything that may forbid it (spec core/11 §11.2), in its order.

use core::net::IpAddr;
use std::sync::Arc;

use millrace_config::options::ConnectionType;

use super::claims::{AccountClaims, SigningKey, UserClaims, UserLimitClaims};
use super::token::Token;
use super::{OperatorMode, REVOKED, is_revoked, permission_options, template, times};
use crate::authenticator::{Credentials, Facts, Identity, UserLimits};
use crate::callout::Callout;
use crate::signature::is_signed;
use crate::{Expiry, Permissions};

const SECOND_NS: i64 = 1_000_000_000;

/// What a login ends with: an identity, or the sentence for the log.
type Outcome<T> = Result<T, String>;

/// What holds for a user after scoped keys were looked at.
struct Granted<'a> {
    limits: &'a UserLimitClaims,
    permissions: super::PermissionClaims,
}

impl OperatorMode {
    /// Whether the token lets its bearer in, and as whom.
    ///
    /// # Errors
    /// Why not, for the log; the client learns nothing of it.
    pub(crate) fn log_in(
        &self,
        credentials: &Credentials<'_>,
        facts: &Facts<'_>,
    ) -> Outcome<(Identity, Option<Callout>)> {
        let text = credentials
            .jwt
            .or(self.default_sentinel.as_deref())
            .ok_or("user JWT missing")?;
        let now_s = facts.now_wall_ns.div_euclid(SECOND_NS);
        let user = Token::<UserClaims>::decode(text).map_err(|error| error.to_string())?;
        user.check_times(now_s).map_err(|error| error.to_string())?;
        let (key, account) = self.account_of(&user, now_s)?;
        if user.issuer == key && self.strict.contains(&account.issuer) {
            return Err("the operator wants users signed by a signing key".to_owned());
        }
        let granted = granted(&user, key, account)?;
        prove_possession(&user, granted.limits, &account.claims, credentials, facts)?;
        check_connection_type(granted.limits, facts.connection_type)?;
        if is_revoked(&account.claims, &user) {
            return Err(REVOKED.to_owned());
        }
        check_source(granted.limits, facts.peer_ip)?;
        let callout = Callout::of_account(key, &account.claims.authorization, &user.subject);
        Ok((
            identity(&user, key, Some(account), &granted, facts)?,
            callout,
        ))
    }

    /// As whom a token lets in that the account's service has answered with.
    pub(crate) fn admit(
        &self,
        user: &Token<UserClaims>,
        account: &str,
        facts: &Facts<'_>,
    ) -> Outcome<Identity> {
        let (key, account) = self
            .accounts
            .get_key_value(account)
            .ok_or_else(|| format!("no valid account {account:?} for auth callout response"))?;
        let granted = granted(user, key, account)?;
        check_connection_type(granted.limits, facts.connection_type)?;
        identity(user, key, Some(account), &granted, facts)
    }

    /// Whether a key is an account's own or one of its signing keys.
    pub(crate) fn is_key_of(&self, account: &str, key: &str) -> bool {
        let Some(token) = self.accounts.get(account) else {
            return false;
        };
        let mut keys = token.claims.signing_keys.iter();
        key == account || keys.any(|known| known.key() == key)
    }

    /// The account a user's token speaks of, if it is known, pinned, in time, and has signed it.
    fn account_of(
        &self,
        user: &Token<UserClaims>,
        now_s: i64,
    ) -> Outcome<(&str, &Token<AccountClaims>)> {
        let named = Some(user.claims.issuer_account.as_str()).filter(|name| !name.is_empty());
        let key = named.unwrap_or(&user.issuer);
        let is_pinned = self.pinned_accounts.is_empty()
            || self.system_account.as_deref() == Some(key)
            || self.pinned_accounts.iter().any(|pinned| pinned == key);
        if !is_pinned {
            return Err(format!("account {key} is not pinned"));
        }
        let (key, account) = self
            .accounts
            .get_key_value(key)
            .ok_or_else(|| format!("account {key} is not known"))?;
        account
            .check_times(now_s)
            .map_err(|error| format!("account {key}: {error}"))?;
        Ok((key, account))
    }
}

/// As whom a token lets in, in configuration mode: the account is named by its audience.
pub(crate) fn admit_placed(
    user: &Token<UserClaims>,
    account: &str,
    facts: &Facts<'_>,
) -> Outcome<Identity> {
    if account.is_empty() {
        return Err("no valid account \"\" for auth callout response".to_owned());
    }
    let granted = Granted {
        limits: &user.claims.limits,
        permissions: user.claims.limits.permissions.clone(),
    };
    check_connection_type(granted.limits, facts.connection_type)?;
    identity(user, account, None, &granted, facts)
}

fn identity(
    user: &Token<UserClaims>,
    key: &str,
    account: Option<&Token<AccountClaims>>,
    granted: &Granted<'_>,
    facts: &Facts<'_>,
) -> Outcome<Identity> {
    let leaves_ns = times::end_of_stay(granted.limits, facts.now_wall_ns)?;
    let expires = [
        seconds_to_ns(user.expires_s).map(Expiry::user),
        leaves_ns.map(Expiry::user),
        account.and_then(|account| seconds_to_ns(account.expires_s).map(Expiry::account)),
    ];
    let default = account.map(|account| &account.claims.default_permissions);
    let rules =
        permission_options(&granted.permissions).or_else(|| default.and_then(permission_options));
    // Without limits of its own a token says nothing, as those of older tools do.
    let limit = |limit: i64| {
        if account.is_none() && limit == 0 {
            -1
        } else {
            limit
        }
    };
    Ok(Identity {
        account: key.into(),
        user: user.subject.as_str().into(),
        permissions: rules.map(|rules| Arc::new(Permissions::new(&rules))),
        limits: UserLimits {
            max_subscriptions: limit(granted.limits.subs),
            max_payload: limit(granted.limits.payload),
        },
        expires: expires
            .into_iter()
            .flatten()
            .min_by_key(|expiry| expiry.at_wall_ns),
    })
}

/// What the signing key lets the user have.
fn granted<'a>(
    user: &'a Token<UserClaims>,
    account_key: &str,
    account: &'a Token<AccountClaims>,
) -> Outcome<Granted<'a>> {
    if user.issuer == account_key {
        return Ok(Granted {
            limits: &user.claims.limits,
            permissions: user.claims.limits.permissions.clone(),
        });
    }
    let mut keys = account.claims.signing_keys.iter();
    let signing_key = keys
        .find(|key| key.key() == user.issuer)
        .ok_or("user JWT issuer is not known to its account")?;
    match signing_key {
        SigningKey::Plain(_) => Ok(Granted {
            limits: &user.claims.limits,
            permissions: user.claims.limits.permissions.clone(),
        }),
        SigningKey::Scoped { template, .. } => {
            if !user.claims.limits.is_empty() {
                return Err("scoped user JWT must carry no permissions of its own".to_owned());
            }
            let subjects = template::Subjects {
                user_name: &user.name,
                user_key: &user.subject,
                user_tags: &user.claims.tags,
                account_name: &account.name,
                account_key,
                account_tags: &account.claims.tags,
            };
            let permissions = template::fill_in(&template.permissions, &subjects)
                .ok_or("the permission template cannot be filled in for this user")?;
            Ok(Granted {
                limits: template,
                permissions,
            })
        }
    }
}

/// The bearer must have the user's seed, unless the token alone is enough.
fn prove_possession(
    user: &Token<UserClaims>,
    limits: &UserLimitClaims,
    account: &AccountClaims,
    credentials: &Credentials<'_>,
    facts: &Facts<'_>,
) -> Outcome<()> {
    if limits.bearer_token {
        if account.limits.disallow_bearer {
            return Err("bearer tokens are not allowed in the account".to_owned());
        }
        return Ok(());
    }
    let signature = credentials.signature.ok_or("signature missing")?;
    if is_signed(&user.subject, signature, facts.nonce) {
        Ok(())
    } else {
        Err("signature not verified".to_owned())
    }
}

fn check_connection_type(limits: &UserLimitClaims, used: ConnectionType) -> Outcome<()> {
    let allowed = &limits.allowed_connection_types;
    let is_allowed = allowed
        .iter()
        .any(|name| name.eq_ignore_ascii_case(used.name()));
    if allowed.is_empty() || is_allowed {
        Ok(())
    } else {
        Err(format!("connection type {} is not allowed", used.name()))
    }
}

/// The peer must be in one of the networks.
fn check_source(limits: &UserLimitClaims, peer: Option<IpAddr>) -> Outcome<()> {
    let networks = &limits.src;
    if networks.is_empty() {
        return Ok(());
    }
    let peer = peer.ok_or("the address of the peer is not known")?;
    if networks.iter().any(|network| contains(network, peer)) {
        Ok(())
    } else {
        Err(format!("{peer} is not an allowed source"))
    }
}

/// Whether an address is in a network written `ADDRESS/BITS`.
fn contains(network: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = network.trim().split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (base.to_canonical(), address.to_canonical()) {
        (IpAddr::V4(base), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

fn seconds_to_ns(seconds: i64) -> Option<i64> {
    (seconds > 0).then(|| seconds.saturating_mul(SECOND_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_only() {
        let cases = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0", "10.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
            ("nonsense/8", "10.0.0.0", false),
        ];
        for (network, address, expected) in cases {
            let address = address.parse().expect("an address");
            assert_eq!(contains(network, address), expected, "{network} {address}");
        }
    }
}
