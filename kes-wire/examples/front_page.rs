//! A block producer with a hot key.

use std::path::Path;
use std::time::Duration;

use kes_wire::envelope;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions};
use kes_wire::unix_time::UnixTime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What the node is configured with: the agent's service socket, the network, and the pool.
    let network = Network::MAINNET;
    let cold_vkey = envelope::read_file(Path::new("cold.vkey"), envelope::read_cold_vkey)?;
    let options = HotKeyOptions::new("/run/kes-agent/service.socket", network.clone(), cold_vkey)
        .observer(|event| println!("{}: {event}", event.name()));
    let (hot_key, receiving) = HotKey::new(options)?;
    // Or, on a tokio runtime: `tokio::spawn(receiving.run());`
    receiving.on_thread()?;

    // The forging loop. It may run on any thread, and on several.
    hot_key.prepare_this_thread()?;
    loop {
        let slot = network.slot_at(UnixTime::now());
        // The block's slot decides which evolution signs, and the header names the certificate of
        // the key that signs it.
        let period = network.period_of_slot(slot);
        match hot_key.sign_with(period, |opcert| header_body(slot, &opcert.to_wire())) {
            Ok((signed, body)) => println!(
                "slot {slot}: {} bytes of header, {} bytes of signature",
                body.len(),
                signed.signature.as_bytes().len()
            ),
            Err(refusal) => println!("slot {slot}: {refusal}; {}", hot_key.status().state),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Stands for the assembly of a real header.
fn header_body(slot: u64, certificate: &[u8]) -> Vec<u8> {
    [&slot.to_be_bytes(), certificate].concat()
}
