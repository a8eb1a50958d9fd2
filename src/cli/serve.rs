//! `wsloop serve`, `echo` and `broadcast`: runs a server configured by arguments, until SIGINT or SIGTERM.

use super::args::{Route, Serve};
use super::descriptors;
use super::listen::{self, Listener, ListeningSocket, SocketFile};
use super::logging;
use super::write_stdout;
use mio::Interest;
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::os::unix::net::UnixListener;
use wsloop::handlers::{Broadcast, Echo, Metrics, Reply};
use wsloop::page::Page;
use wsloop::{Config, Context, Handler, Id, ListenOptions, Message, Ready, Router, Server};

/// Opens the listeners, prints their URLs on stdout and serves until a signal arrives. The first signal stops the
/// server gracefully, the second immediately.
///
/// # Errors
/// The error of a system call. If a listener cannot be opened, the message names its address.
pub(super) fn run(serve: Serve) -> io::Result<()> {
    logging::init(serve.log_format);
    for name in &serve.unknown_variables {
        log::warn!(
            "ignored the environment variable {name}: no flag has this name; see 'wsloop serve --help'"
        );
    }
    let (listeners, files) = listen::open(&serve)?;
    descriptors::raise();
    let handler = Stoppable {
        router: router(&serve),
        signals: Signals::new([SIGINT, SIGTERM])?,
        files,
    };
    let mut server = Server::new(config(&serve), handler)?;
    // Registered before the URLs are printed, so that a program that waits for a URL can stop the server immediately.
    server.with_handler(|handler, cx| cx.register(&mut handler.signals, 0, Interest::READABLE))?;
    let mut announcement = String::new();
    let mut page_address = None;
    for Listener { socket, is_proxied } in listeners {
        let options = options(is_proxied);
        let url = match socket {
            ListeningSocket::Tcp(listener) => {
                let address = server.listen_on_with(listener, &options)?;
                if !is_proxied {
                    page_address.get_or_insert(address);
                }
                format!("ws://{address}/")
            }
            ListeningSocket::Unix(listener) => {
                let url = unix_url(&listener)?;
                server.listen_on_unix_with(listener, &options)?;
                url
            }
        };
        let how = if is_proxied { " (PROXY protocol)" } else { "" };
        announcement += &format!("listening on {url}{how}\n");
    }
    // Stdout, so that a program can wait for the URLs; the log goes to stderr.
    write_stdout(&announcement)?;
    if serve.page
        && let Some(address) = page_address
    {
        log::info!("the built-in test page is at http://{address}/");
    }
    server.run()
}

/// Stops the server when a signal arrives. All other events go to the router.
struct Stoppable {
    router: Router,
    signals: Signals,
    /// The files of Unix sockets, which are removed when they are dropped.
    files: Vec<SocketFile>,
}

impl Handler for Stoppable {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.router)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.router.on_message(cx, id, message);
    }

    fn on_source(&mut self, cx: &mut Context<'_>, _: u64, _: Ready) {
        // Calls `stop` once, even if both signals are pending: a second call would end the graceful stop immediately.
        if self.signals.pending().count() > 0 {
            // Removes the socket files while the sockets are still open. As long as a socket is open, another server that
            // starts finds its path in use and does not replace the file. So no file of another server is removed here.
            self.files.clear();
            cx.stop();
        }
    }
}

/// Returns the options of a listener.
fn options(is_proxied: bool) -> ListenOptions {
    let options = ListenOptions::new();
    #[cfg(feature = "proxy-protocol")]
    if is_proxied {
        return options.proxy_protocol();
    }
    // Without the feature, the arguments and the names of inherited sockets were rejected.
    debug_assert!(!is_proxied);
    options
}

/// Returns the server's limits. Computes the default of `connections_max` again, because `descriptors::raise` has
/// changed the limit on open files since the arguments were parsed.
fn config(serve: &Serve) -> Config {
    let config = serve.config.clone();
    if serve.has_connections_max {
        return config;
    }
    Config {
        connections_max: Config::default().connections_max,
        ..config
    }
}

/// Returns the URL of a Unix socket, in the notation of npm ws: `ws+unix:PATH`.
fn unix_url(listener: &UnixListener) -> io::Result<String> {
    let addr = listener.local_addr()?;
    let path = addr.as_pathname();
    Ok(
        path.map_or("a Unix socket without a path".to_owned(), |path| {
            format!("ws+unix:{}", path.to_string_lossy())
        }),
    )
}

/// Builds the router: the given routes, the page at `/`, `/healthz`, the metrics, and the allowed origins.
fn router(serve: &Serve) -> Router {
    let mut router = Router::new();
    for (path, route) in &serve.routes {
        if !(serve.page && path == ROOT) {
            router = add_route(router, serve, path, route, None);
        }
    }
    if serve.page {
        // WebSockets at `/` use the same route as without the page.
        let find = |name: &str| serve.routes.iter().find(|(path, _)| path == name);
        router = match find(ROOT).or_else(|| find("/*")) {
            Some((_, route)) => add_route(router, serve, ROOT, route, Some(Page::new())),
            None => router.route(ROOT, Page::new()),
        };
    }
    // The health check is not added if its path is in use.
    let mut paths = serve
        .routes
        .iter()
        .map(|(path, _)| path)
        .chain(&serve.metrics);
    if paths.all(|path| path != HEALTH) {
        let health = Page::bytes("text/plain; charset=utf-8", &b"ok\n"[..]);
        router = match serve.routes.iter().find(|(path, _)| path == "/*") {
            Some((_, route)) => add_route(router, serve, HEALTH, route, Some(health)),
            None => router.route(HEALTH, health),
        };
    }
    if let Some(path) = &serve.metrics {
        router = router.route(path, Metrics);
    }
    serve
        .origins
        .iter()
        .fold(router, |router, origin| router.allow_origin(origin))
}

/// Adds a route. If there is a page, the route answers plain GET with it.
fn add_route(
    router: Router,
    serve: &Serve,
    path: &str,
    route: &Route,
    page: Option<Page>,
) -> Router {
    fn add_with_page(
        router: Router,
        path: &str,
        handler: impl Handler + 'static,
        page: Option<Page>,
    ) -> Router {
        match page {
            Some(page) => router.route(path, page.beside(handler)),
            None => router.route(path, handler),
        }
    }
    match route {
        Route::Echo { prefix } => add_with_page(router, path, Echo::with_prefix(prefix), page),
        Route::Broadcast => match serve.replay {
            None => add_with_page(router, path, Broadcast, page),
            Some(replay) => add_with_page(router, path, Broadcast.with_replay(replay), page),
        },
        Route::Reply { text } => add_with_page(router, path, Reply::new(text), page),
    }
}

/// Signal numbers. POSIX defines the same ones on every system.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Path of the built-in page.
const ROOT: &str = "/";

/// Path of the health check for load balancers.
const HEALTH: &str = "/healthz";
