//! The files interface: whole files in and out, streamed, confined to the sandbox's folders.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::http::Body;
use crate::hand::confine::{Confinement, PathError};
use crate::hand::replacement::{Bits, Replacement};
use crate::hand::tools::reason;
use crate::hand::wire::{Error, ErrorCode, MAX_FILE_BYTES};

/// How much of a file is sent at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Time a client may take between two pieces of a file.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// The permission bits asked for: `mode=0644`, in octal.
pub(super) fn mode(query: Option<&str>) -> Result<Bits, Error> {
    let mut bits = Bits::Kept;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let mode = pair.strip_prefix("mode=").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        match mode.filter(|mode| *mode <= 0o7777) {
            Some(mode) => bits = Bits::Exactly(mode),
            None => {
                let message = format!("{pair:?} is not understood; expected mode=0644, in octal");
                return Err(Error::new(ErrorCode::BadRequest, message));
            }
        }
    }
    Ok(bits)
}

/// Sends a file.
pub(super) async fn get(confinement: &Confinement, given: &str) -> Result<Response<Body>, Error> {
    let opened = confinement.at(Path::new(given), |place| place.open_regular());
    let (file, stat) = opened.map_err(|error| refused(given, error))?;
    // What is announced is what is sent, also if the file grows meanwhile; if it shrinks, the reply breaks
    // off and the client knows.
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(length), CHUNK_BYTES);
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// Takes a file in, and puts it in place once it is complete.
pub(super) async fn put(
    confinement: &Confinement,
    given: &str,
    bits: Bits,
    mut body: Incoming,
) -> Result<(), Error> {
    let too_large = || Error::new(ErrorCode::TooLarge, format!("a file may have {MAX_FILE_BYTES} bytes"));
    if body.size_hint().lower() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let started = confinement.at(Path::new(given), |place| Replacement::create(place, bits));
    let mut replacement = started.map_err(|error| refused(given, error))?;
    let failed = |error: std::io::Error| io_refused(given, &error);
    let mut file = tokio::fs::File::from_std(replacement.file().try_clone().map_err(failed)?);
    let broken =
        |why: String| Error::new(ErrorCode::BadRequest, format!("the file did not come whole: {why}"));
    let mut received = 0;
    loop {
        let frame = timeout(PIECE_TIMEOUT, body.frame()).await;
        let Some(frame) = frame.map_err(|error| broken(error.to_string()))? else { break };
        let frame = frame.map_err(|error| broken(error.to_string()))?;
        let piece: Bytes = frame.into_data().unwrap_or_default();
        received += piece.len() as u64;
        if received > MAX_FILE_BYTES {
            return Err(too_large());
        }
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    replacement.commit().map_err(|error| refused(given, error))
}

pub(super) fn refused(given: &str, error: PathError) -> Error {
    let (code, why) = match error {
        PathError::Outside { .. } | PathError::ReadOnly { .. } => {
            (ErrorCode::Forbidden, "the path lies outside the sandbox's folders".into())
        }
        PathError::NotRegular => (ErrorCode::BadRequest, "not a regular file".into()),
        PathError::Changed => (ErrorCode::Internal, "the path was changed while it was used".into()),
        PathError::System(errno) => {
            let code = match errno {
                Errno::NOENT | Errno::NOTDIR => ErrorCode::NotFound,
                Errno::ACCESS | Errno::PERM => ErrorCode::Forbidden,
                Errno::ISDIR | Errno::NAMETOOLONG | Errno::INVAL => ErrorCode::BadRequest,
                _ => ErrorCode::Internal,
            };
            (code, reason(errno))
        }
    };
    Error::new(code, format!("{given}: {why}"))
}

fn io_refused(given: &str, error: &std::io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(errno) => refused(given, PathError::System(errno)),
        None => Error::new(ErrorCode::Internal, format!("{given}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_nothing_else_is_taken() {
        assert_eq!(mode(None).unwrap(), Bits::Kept);
        assert_eq!(mode(Some("mode=0755")).unwrap(), Bits::Exactly(0o755));
        for wrong in ["mode=9", "mode=10000", "mode=", "node=0644"] {
            assert_eq!(mode(Some(wrong)).unwrap_err().code, ErrorCode::BadRequest);
        }
    }
}
