/* Benchmark peer: uWebSockets on its own epoll loop. One thread.
 * Usage: uws PORT. Listens on 127.0.0.1 only.
 *   any path    echoes each text or binary message to its sender
 *   /broadcast  sends each message to all members, including its sender */
#include "App.h"

#include <cstdio>
#include <cstdlib>

namespace {

struct Nothing {};
using Socket = uWS::WebSocket<false, true, Nothing>;
using Behavior = uWS::App::WebSocketBehavior<Nothing>;

/* The settings of the library's EchoServer example, without compression and
 * without timeouts. */
Behavior settings()
{
    Behavior behavior;
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
    behavior.dropped = [](Socket *, std::string_view message, uWS::OpCode) {
        fprintf(stderr, "uws: dropped a message of %zu bytes\n", message.size());
    };
    return behavior;
}

} // namespace

int main(int argc, char **argv)
{
    int port = argc == 2 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: uws PORT\n");
        return 2;
    }
    uWS::App app;

    Behavior echo = settings();
    echo.message = [](Socket *ws, std::string_view message, uWS::OpCode opcode) {
        ws->send(message, opcode, false);
    };

    Behavior broadcast = settings();
    broadcast.open = [](Socket *ws) { ws->subscribe("all"); };
    /* Publishing on the app, not on the socket, includes the sender. */
    broadcast.message = [&app](Socket *, std::string_view message, uWS::OpCode opcode) {
        app.publish("all", message, opcode, false);
    };

    app.ws<Nothing>("/broadcast", std::move(broadcast));
    app.ws<Nothing>("/*", std::move(echo));
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
