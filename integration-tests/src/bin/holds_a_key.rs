//! A node by the library: takes a key from the service socket that is named and answers each line
//! on standard input with one on standard output. `evolve N` evolves the key to N and signs;
//! `drop` lets it go.

use std::error::Error;
use std::io::BufRead;
use std::path::PathBuf;

use kes_wire::net::ServiceClient;
use kes_wire::period::Evolution;
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::sum6kes::SignKey;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("a service socket")?.into();
    let mut client = ServiceClient::connect(&path).await?;
    let ServiceMessage::Key(received) = client.next().await? else {
        return Err("the key was dropped".into());
    };
    let vkey = received.opcert.kes_vkey;
    let mut key = Some(SignKey::from_bytes(
        received.secret,
        received.evolution,
        &vkey,
    )?);
    client.answer(ServiceResult::Ok).await?;
    println!("held");
    for line in std::io::stdin().lock().lines() {
        match line?.split_once(' ') {
            Some(("evolve", to)) => {
                let key = key.as_mut().ok_or("the key is gone")?;
                key.evolve_to(Evolution(to.parse()?))?;
                key.sign(b"a block")?;
            }
            Some(_) | None => key = None,
        }
        println!("done");
    }
    Ok(())
}
