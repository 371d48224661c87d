//! What S3 answers: decided by its error codes, then by the status (sinks-infrastructure.md 6.6).

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use url::Url;

use crate::family::answer::status_line;
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::family::retry_after::retry_after;
use crate::family::transport::TransportError;
use crate::{Answer, Batch, Diagnosis, Failure, ItemAnswer};

/// What became of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Put {
    Stored,
    /// Not tried, because an object before it was refused for all.
    Skipped,
    Transport(TransportError),
    /// The store answered with an error.
    Refused {
        class: Class,
        code: String,
        failure: Failure,
    },
}

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Stored,
    Retry,
    Auth,
    Config,
    TooLarge,
    /// This object can never be stored.
    Object,
}

/// The class of an error code; the status decides where the code does not.
pub(super) fn class(code: &str, status: u16) -> Class {
    match code {
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "TooManyRequests"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "KMS.ThrottlingException"
        | "IncompleteBody" => Class::Retry,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "InvalidToken"
        | "InvalidClientTokenId"
        | "RequestTimeTooSkewed"
        | "NotSignedUp"
        | "InvalidSecurity"
        | "AccessForbidden"
        | "Unauthorized" => Class::Auth,
        "NoSuchBucket"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName"
        | "InvalidRequest"
        | "ExcessHeaderValues"
        | "NotImplemented"
        | "MethodNotAllowed"
        | "InvalidStorageClass"
        | "InvalidEncryptionAlgorithmError"
        | "NoSuchKey" => Class::Config,
        // Bytes were changed on the way: the same ones may pass.
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "InvalidDigest" => {
            Class::Retry
        }
        "EntityTooLarge" | "MaxMessageLengthExceeded" => Class::TooLarge,
        "KeyTooLongError" | "InvalidObjectName" | "XMinioInvalidObjectName" => Class::Object,
        "PreconditionFailed" => Class::Stored,
        _ if code.starts_with("KMS.") => Class::Config,
        _ => match status {
            412 => Class::Stored,
            401 | 403 | 407 => Class::Auth,
            300..400 | 404 | 405 | 501 => Class::Config,
            408 | 409 | 425 | 429 | 500.. => Class::Retry,
            413 => Class::TooLarge,
            400..500 => Class::Object,
            _ => Class::Retry,
        },
    }
}

impl Put {
    /// Bytes went out.
    pub(super) fn reached(&self) -> bool {
        !matches!(self, Put::Transport(_) | Put::Skipped)
    }

    /// Every other object would be answered the same.
    pub(super) fn holds(&self) -> bool {
        match self {
            Put::Transport(error) => matches!(error.clone().answer(), Answer::Config(_)),
            Put::Refused { class, .. } => matches!(class, Class::Auth | Class::Config),
            Put::Stored | Put::Skipped => false,
        }
    }

    /// The adapter has changed how it will send; once more, at once.
    pub(super) fn again(self) -> Put {
        match self {
            Put::Refused { code, mut failure, .. } => {
                failure.retry_after = Some(Duration::ZERO);
                Put::Refused { class: Class::Retry, code, failure }
            }
            other => other,
        }
    }

    pub(super) fn is_again(&self) -> bool {
        matches!(self, Put::Refused { failure, .. } if failure.retry_after == Some(Duration::ZERO))
    }
}

/// The verdict on an SDK error, and the region the answer names, if any.
pub(super) fn read(
    error: &SdkError<PutObjectError, HttpResponse>,
    url: &Url,
    redactor: &Redactor,
) -> (Put, Option<String>) {
    let Some(raw) = error.raw_response() else {
        let transport = match error {
            SdkError::TimeoutError(_) => TransportError::timeout(url),
            SdkError::ConstructionFailure(_) => TransportError::invalid(
                "the request to the bucket cannot be made: check bucket name, region and keys",
            ),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                // The connector's own timeouts: connecting has its own wording.
                let found = TransportError::find(error, url);
                if found.cause == crate::family::transport::Cause::Reset {
                    TransportError::timeout(url)
                } else {
                    found
                }
            }
            _ => TransportError::find(error, url),
        };
        return (Put::Transport(transport), None);
    };
    let status = raw.status().as_u16();
    let body = raw.body().bytes().unwrap_or_default();
    let code = error.code().unwrap_or_default().to_owned();
    let said = match (code.is_empty(), error.message()) {
        (false, Some(message)) => format!("{code}: {}", redactor.text(message)),
        (false, None) => code.clone(),
        (true, _) => redactor.excerpt(body),
    };
    let header = |name: &str| raw.headers().get(name);
    let region = header("x-amz-bucket-region")
        .map(str::to_owned)
        .or_else(|| region_in(body))
        .filter(|region| !region.is_empty() && status < 500);
    // A success whose body could not be read is a success: nothing in it is needed.
    let class = match status {
        200..300 => Class::Stored,
        _ => class(&code, status),
    };
    let failure = Failure {
        status: Some(status),
        message: status_line(status, &said),
        retry_after: wait(header("x-amz-retry-after"), header("retry-after"), header("date")),
    };
    let put = Put::Refused { class, code, failure };
    (put, region)
}

/// `x-amz-retry-after` counts milliseconds.
fn wait(amz: Option<&str>, standard: Option<&str>, date: Option<&str>) -> Option<Duration> {
    if let Some(millis) = amz.and_then(|value| value.trim().parse::<u64>().ok()) {
        return Some(Duration::from_millis(millis.min(3_600_000))).filter(|wait| !wait.is_zero());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [("retry-after", standard), ("date", date)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    retry_after(&headers, Timestamp::now())
}

/// `<Region>eu-west-1</Region>` in the error document.
fn region_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Region>")?;
    let (region, _) = rest.split_once("</Region>")?;
    Some(region.trim().to_owned())
}

/// The answer to a batch out of those to its objects. A failure of the whole destination speaks
/// for the batch: objects already written are written again under the same keys.
pub(super) fn answer(batch: &Batch, refused: &[(usize, String)], puts: Vec<(&[usize], Put)>) -> Answer {
    let mut items = vec![ItemAnswer::Delivered; batch.items.len()];
    let mut set = |i: usize, answer: ItemAnswer| {
        if let Some(item) = items.get_mut(i) {
            // A refusal is final for the item even if another of its objects may still be stored.
            if !matches!(item, ItemAnswer::Refused(_)) {
                *item = answer;
            }
        }
    };
    for (i, reason) in refused {
        set(*i, ItemAnswer::Refused(reason.clone()));
    }
    let objects = puts.len();
    let mut retries = 0;
    let mut first: Option<Failure> = None;
    let mut wait: Option<Duration> = None;
    for (positions, put) in puts {
        let (class, failure) = match put {
            Put::Stored => continue,
            Put::Skipped => (Class::Retry, Failure::default()),
            Put::Transport(error) => match error.answer() {
                Answer::Retry(failure) => (Class::Retry, failure),
                other => return other,
            },
            Put::Refused { class, failure, .. } => (class, failure),
        };
        match class {
            Class::Stored => {}
            Class::Auth => return Answer::Auth(failure),
            Class::Config => return Answer::Config(failure),
            Class::TooLarge if positions.len() > 1 => {
                return Answer::Isolate { by_size: true, failure };
            }
            Class::Object if positions.len() > 1 => {
                return Answer::Isolate { by_size: false, failure };
            }
            Class::TooLarge | Class::Object => {
                for i in positions {
                    set(*i, ItemAnswer::Refused(failure.message.clone()));
                }
            }
            Class::Retry => {
                retries += 1;
                wait = wait.max(failure.retry_after);
                first.get_or_insert(failure);
                for i in positions {
                    set(*i, ItemAnswer::Retry);
                }
            }
        }
    }
    if let Some(mut failure) = first
        && retries == objects
        && refused.is_empty()
    {
        failure.retry_after = wait;
        return Answer::Retry(failure);
    }
    if items.iter().all(|item| *item == ItemAnswer::Delivered) {
        Answer::Delivered
    } else {
        Answer::PerItem(items)
    }
}

pub(super) fn verdict(put: Put, key: &str) -> Verdict {
    let left = || format!("a small object was left at {key}");
    match put {
        Put::Stored => Verdict::ok(Some(200), &left()),
        Put::Transport(error) => Verdict::transport(&error),
        Put::Skipped => Verdict::transport(&TransportError::invalid("nothing was tried")),
        Put::Refused { class, code, failure } => {
            let (diagnosis, advice) = match (class, code.as_str()) {
                (Class::Stored, _) => return Verdict::ok(failure.status, &left()),
                (_, "sts:NoIdentity") => (
                    Diagnosis::Auth,
                    "give the gateway one: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, or the role of \
                     its container or instance",
                ),
                (
                    Class::Auth | Class::Config,
                    "sts:InvalidClientTokenId"
                    | "sts:SignatureDoesNotMatch"
                    | "sts:UnrecognizedClientException"
                    | "sts:ExpiredToken"
                    | "sts:ExpiredTokenException",
                ) => (Diagnosis::Auth, "the gateway's own credentials at aws are wrong or have ended"),
                (Class::Auth | Class::Config, code) if code.starts_with("sts:") => (
                    Diagnosis::Auth,
                    "check roleArn, and that the role's trust policy names this gateway and config.externalId",
                ),
                (_, "NoSuchBucket") => (Diagnosis::NotFound, "check the bucket name"),
                (_, "RequestTimeTooSkewed") => (Diagnosis::Auth, "the clock of this machine is wrong"),
                (Class::Auth, _) => {
                    (Diagnosis::Auth, "check the keys and that they may s3:PutObject under the prefix")
                }
                (Class::Config, "PermanentRedirect" | "AuthorizationHeaderMalformed") => {
                    (Diagnosis::NotFound, "check the region")
                }
                (Class::Config, _) if failure.status.is_some_and(|status| status == 404) => {
                    (Diagnosis::NotFound, "check endpoint and bucket name")
                }
                (Class::Config | Class::TooLarge | Class::Object, _) => {
                    (Diagnosis::Rejected, "check provider, region and headers")
                }
                (Class::Retry, "SlowDown") => (Diagnosis::RateLimited, "try again later"),
                (Class::Retry, _) if failure.status == Some(429) => {
                    (Diagnosis::RateLimited, "try again later")
                }
                (Class::Retry, _) => (Diagnosis::Unavailable, "try again later"),
            };
            Verdict::new(failure.status, diagnosis, format!("{}; {advice}", failure.message))
        }
    }
}
