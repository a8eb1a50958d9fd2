//! Echoes bytes on one connection after the other, with the standard library alone: the size of any program that
//! listens. `size-empty ADDR`; prints the address with the port that it listens on.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1).expect("an address");
    let listener = TcpListener::bind(addr)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut buf = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buf) {
            if stream.write_all(&buf[..len]).is_err() {
                break;
            }
        }
    }
    Ok(())
}
