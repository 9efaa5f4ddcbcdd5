//! Monitoring over HTTP, on a thread of its own: it only carries requests to the event loop and
//! answers back. What is answered is the node's.

use crate::event_loop::{Input, Inputs};
use crate::limits::{MONITOR_CONNECTIONS, MONITOR_WAIT_S};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_node::MonitorAnswer;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// A request on its way to the event loop.
#[derive(Debug)]
pub(crate) struct MonitorRequest {
    /// Without the configured base path.
    pub(crate) path: String,
    /// Without its question mark; may be empty.
    pub(crate) query: String,
    reply: oneshot::Sender<MonitorAnswer>,
}

impl MonitorRequest {
    /// Sends the answer back; the asker may have gone.
    pub(crate) fn answer(self, answer: MonitorAnswer) {
        let _ = self.reply.send(answer);
    }
}

/// Serves `listener` until the process ends.
///
/// # Errors
/// The system refuses a thread or the runtime.
pub(crate) fn start(listener: TcpListener, base: String, inputs: Inputs) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("monitoring".to_owned())
        .spawn(move || runtime.block_on(serve(listener, base, inputs)))?;
    Ok(())
}

async fn serve(listener: TcpListener, base: String, inputs: Inputs) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let base: Arc<str> = base.trim_end_matches('/').into();
    let free = Arc::new(Semaphore::new(MONITOR_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (base, inputs) = (Arc::clone(&base), inputs.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| handle(request, &base, &inputs));
            // A peer that breaks off is no concern of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(Duration::from_secs(MONITOR_WAIT_S))
                .serve_connection(TokioIo::new(socket), service)
                .await;
            drop(permit);
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    base: &str,
    inputs: &Inputs,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let path = match path.strip_prefix(base) {
        Some("") => "/",
        Some(rest) => rest,
        None => path,
    };
    let (reply, answer) = oneshot::channel();
    inputs.send(Input::Monitor(MonitorRequest {
        path: path.to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        reply,
    }));
    let answer = tokio::time::timeout(Duration::from_secs(MONITOR_WAIT_S), answer).await;
    Ok(match answer {
        Ok(Ok(answer)) => response(answer),
        _ => response(MonitorAnswer {
            status: 503,
            content_type: "text/plain; charset=utf-8",
            body: b"the server is busy or stopping\n".to_vec(),
        }),
    })
}

fn response(answer: MonitorAnswer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = hyper::header::HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
