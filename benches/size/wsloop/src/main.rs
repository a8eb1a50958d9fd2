//! Echoes each message, with wsloop. `size-wsloop ADDR`; prints the address with the port that it listens on.

use wsloop::{Config, Server, handler_fn};

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1).expect("an address");
    let echo = handler_fn(|cx, id, message| cx.send(id, message));
    let mut server = Server::new(Config::default(), echo)?;
    println!("{}", server.listen(addr)?);
    server.run()
}
