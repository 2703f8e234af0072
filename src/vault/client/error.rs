//! What a client can be told, with the vault's own reason kept.

use std::error::Error;

use crate::trust::tls::TlsError;
use crate::vault::protocol::Problem;

/// Why a vault did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The certificates do not even make a client.
    #[error(transparent)]
    Material(#[from] TlsError),
    /// The vault was not reached, or did not answer to the end.
    #[error("the vault at {url} was not reached: {cause}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The whole chain of causes.
        cause: String,
    },
    /// It is not there.
    #[error("{message}")]
    NotFound {
        /// The vault's sentence.
        message: String,
    },
    /// The vault refuses, and will refuse again.
    #[error("the vault refuses: {message} ({reason})")]
    Refused {
        /// The vault's reason, one of a closed set of words.
        reason: String,
        /// The vault's sentence.
        message: String,
    },
    /// Something else is stored already.
    #[error("the vault has something else there: {message}")]
    Conflict {
        /// The vault's sentence.
        message: String,
        /// Sequence of the last letter, if it was a letter.
        last: Option<i64>,
        /// What is stored, if it was a manifest.
        text: Option<String>,
    },
    /// It is shorter than what was asked for.
    #[error("{message}")]
    TooShort {
        /// How much there is.
        message: String,
    },
    /// The vault cannot at the moment.
    #[error("the vault failed with status {status}: {message}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// The vault's sentence, or the beginning of what it sent.
        message: String,
    },
    /// An answer that no vault gives.
    #[error("{url} did not answer as a vault does: {cause}")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What was wrong.
        cause: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. })
    }

    /// An error of the transport.
    pub(super) fn transport(url: &str, error: &dyn Error) -> Self {
        let mut cause = String::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let separator = if cause.is_empty() { "" } else { ": " };
            cause.push_str(separator);
            cause.push_str(&error.to_string());
            next = error.source();
        }
        Self::Unreachable { url: url.to_owned(), cause }
    }

    /// An answer that is no success.
    pub(super) fn answer(status: u16, body: &[u8]) -> Self {
        let problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
            reason: "Unknown".to_owned(),
            message: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
            last: None,
            text: None,
        });
        let Problem { reason, message, last, text } = problem;
        match status {
            404 => Self::NotFound { message },
            409 => Self::Conflict { message, last, text },
            416 => Self::TooShort { message },
            408 | 429 | 500.. => Self::Failed { status, message },
            _ => Self::Refused { reason, message },
        }
    }

    /// A body of another shape.
    pub(super) fn unexpected(url: &str, cause: &dyn std::fmt::Display) -> Self {
        Self::Unexpected { url: url.to_owned(), cause: cause.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vaults_reason_is_kept() {
        let error = ClientError::answer(413, br#"{"reason":"QuotaExceeded","message":"full"}"#);
        let reason = "QuotaExceeded".to_owned();
        assert_eq!(error, ClientError::Refused { reason, message: "full".to_owned() });
        let error = ClientError::answer(409, br#"{"reason":"OutOfOrder","message":"m","last":4}"#);
        assert!(matches!(error, ClientError::Conflict { last: Some(4), .. }), "{error}");
    }

    #[test]
    fn what_is_no_answer_of_a_vault_is_told_too() {
        let error = ClientError::answer(403, b"<html>");
        assert_eq!(error.to_string(), "the vault refuses: <html> (Unknown)");
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        for (status, transient) in
            [(400, false), (403, false), (404, false), (413, false), (416, false), (500, true), (507, true)]
        {
            assert_eq!(ClientError::answer(status, b"").is_transient(), transient, "{status}");
        }
    }
}
