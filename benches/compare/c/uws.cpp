/* Benchmark peer: uWebSockets on its own epoll loop. One thread.
 * Usage: uws PORT [CERTIFICATE KEY]. Listens on 127.0.0.1 only. With PEM
 * files of a certificate and its key it speaks TLS, if built for it.
 *   any path    echoes each text or binary message to its sender
 *   /broadcast  sends each message to all members, including its sender */
#include "App.h"

#include <cstdio>
#include <cstdlib>

namespace {

struct Nothing {};
template <bool SSL> using Socket = uWS::WebSocket<SSL, true, Nothing>;
template <bool SSL> using App = uWS::TemplatedApp<SSL>;
template <bool SSL> using Behavior = typename App<SSL>::template WebSocketBehavior<Nothing>;

/* The settings of the library's EchoServer example, without compression and
 * without timeouts. */
template <bool SSL> Behavior<SSL> settings()
{
    Behavior<SSL> behavior;
    behavior.compression = uWS::DISABLED;
    behavior.maxPayloadLength = 32u << 20;
    behavior.idleTimeout = 0; /* 0: never */
    behavior.maxLifetime = 0; /* 0: never */
    behavior.maxBackpressure = 64u << 20;
    /* Close a connection above the limit, so that the load reports an error. */
    behavior.closeOnBackpressureLimit = true;
    behavior.resetIdleTimeoutOnSend = false;
    behavior.sendPingsAutomatically = false;
    /* A dropped message would make the measurement wrong: report it. */
    behavior.dropped = [](Socket<SSL> *, std::string_view message, uWS::OpCode) {
        fprintf(stderr, "uws: dropped a message of %zu bytes\n", message.size());
    };
    return behavior;
}

template <bool SSL> void serve(App<SSL> app, int port)
{
    Behavior<SSL> echo = settings<SSL>();
    echo.message = [](Socket<SSL> *ws, std::string_view message, uWS::OpCode opcode) {
        ws->send(message, opcode, false);
    };

    Behavior<SSL> broadcast = settings<SSL>();
    broadcast.open = [](Socket<SSL> *ws) { ws->subscribe("all"); };
    /* Publishing on the app, not on the socket, includes the sender. */
    broadcast.message = [&app](Socket<SSL> *, std::string_view message, uWS::OpCode opcode) {
        app.publish("all", message, opcode, false);
    };

    app.template ws<Nothing>("/broadcast", std::move(broadcast));
    app.template ws<Nothing>("/*", std::move(echo));
    /* With an exclusive port, a second server on the same port fails. */
    app.listen("127.0.0.1", port, LIBUS_LISTEN_EXCLUSIVE_PORT, [](us_listen_socket_t *listener) {
        if (!listener) {
            fprintf(stderr, "uws: cannot listen\n");
            exit(1);
        }
        puts("listening");
        fflush(stdout);
    });
    app.run();
}

} // namespace

int main(int argc, char **argv)
{
    int port = argc == 2 || argc == 4 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: uws PORT [CERTIFICATE KEY]\n");
        return 2;
    }
    if (argc == 2) {
        serve<false>(uWS::App(), port);
        return 0;
    }
#ifdef LIBUS_NO_SSL
    fprintf(stderr, "uws: built without TLS\n");
    return 2;
#else
    serve<true>(uWS::SSLApp({.key_file_name = argv[3], .cert_file_name = argv[2]}), port);
#endif
}
