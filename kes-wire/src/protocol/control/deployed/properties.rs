//! Properties of the deployed messages, for arbitrary ones.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::super::testing::feed;
use super::*;
use crate::opcert::ColdSignature;
use crate::period::{Evolution, KesPeriod};

const LAYOUTS: [Layout; 3] = [v3_0::LAYOUT, v2_0::LAYOUT, v1_0::LAYOUT];

fn opcert() -> impl Strategy<Value = OpCert> {
    let signature = vec(any::<u8>(), 64);
    (any::<[u8; 32]>(), any::<u64>(), any::<u64>(), signature).prop_map(
        |(vkey, counter, start, signature)| OpCert {
            kes_vkey: VerificationKey(vkey),
            counter,
            start_period: KesPeriod(start),
            cold_signature: ColdSignature(signature.try_into().unwrap()),
        },
    )
}

fn request() -> impl Strategy<Value = DeployedRequest> {
    prop_oneof![
        Just(DeployedRequest::GenStagedKey),
        Just(DeployedRequest::QueryStagedKey),
        Just(DeployedRequest::DropStagedKey),
        opcert().prop_map(DeployedRequest::InstallKey),
        Just(DeployedRequest::Info),
        Just(DeployedRequest::DropKey),
    ]
}

fn info() -> impl Strategy<Value = AgentInfo> {
    let bundle = (any::<u32>(), opcert()).prop_map(|(evolution, opcert)| BundleInfo {
        evolution: Evolution(evolution),
        opcert,
    });
    let installed = (option::of(bundle), any::<Option<i64>>())
        .prop_map(|(bundle, time)| InstalledInfo { bundle, time });
    let connection = prop_oneof![
        Just(PeerConnection::Up),
        Just(PeerConnection::Connecting),
        Just(PeerConnection::Down),
    ];
    let peer = (any::<String>(), connection).prop_map(|(address, connection)| PeerInfo {
        address,
        connection,
    });
    let numbers = any::<(i64, u64, (i64, i64))>();
    let keys = (option::of(installed), any::<Option<[u8; 32]>>());
    (any::<String>(), keys, numbers, vec(peer, 0..5)).prop_map(
        |(version, (installed, staged), (now, period, times), peers)| AgentInfo {
            version: Some(version),
            installed,
            staged: staged.map(VerificationKey),
            now,
            period: KesPeriod(period),
            period_times: Some(times),
            peers,
        },
    )
}

/// What a version tells of `info`, by the tables of the specification.
fn as_told(layout: Layout, mut info: AgentInfo) -> AgentInfo {
    if layout != v3_0::LAYOUT {
        info.version = None;
        info.period_times = None;
    }
    if layout == v1_0::LAYOUT {
        info.installed = info
            .installed
            .filter(|installed| installed.bundle.is_some());
        if let Some(installed) = &mut info.installed {
            installed.time = None;
        }
    }
    info
}

proptest! {
    #[test]
    fn requests_are_read_as_they_were_written(
        requests in vec(request(), 0..6), piece in 1usize..300,
    ) {
        for layout in LAYOUTS {
            let known = |request: &&DeployedRequest| {
                layout.has_drop_key || **request != DeployedRequest::DropKey
            };
            let requests: Vec<_> = requests.iter().filter(known).copied().collect();
            let bytes: Vec<u8> = requests.iter().flat_map(DeployedRequest::to_wire).collect();
            let mut reader = RequestReader::new(layout);
            prop_assert_eq!(feed(&mut reader, &bytes, piece), Ok(requests));
            prop_assert!(reader.is_between_items());
        }
    }

    #[test]
    fn infos_are_read_as_the_version_tells_them_and_cut_anywhere_are_none(
        info in info(), piece in 1usize..300,
    ) {
        for layout in LAYOUTS {
            let bytes = DeployedAnswer::Info(Box::new(info.clone())).to_wire(layout);
            let told = DeployedAnswer::Info(Box::new(as_told(layout, info.clone())));
            let mut reader = AnswerReader::new(layout, DeployedRequest::Info);
            prop_assert_eq!(feed(&mut reader, &bytes, piece), Ok(vec![told]));
            prop_assert!(reader.is_between_items());
            for cut in 1..bytes.len() {
                let mut reader = AnswerReader::new(layout, DeployedRequest::Info);
                prop_assert_eq!(feed(&mut reader, &bytes[..cut], 999), Ok(vec![]));
                prop_assert!(!reader.is_between_items());
            }
        }
    }

    /// Mostly zeros and ones, so that it gets past the first fields.
    #[test]
    fn garbage_is_refused_or_is_what_stood_there(
        bytes in vec(prop_oneof![3 => Just(0u8), 2 => Just(1), 1 => any::<u8>()], 0..600),
        piece in 1usize..100,
    ) {
        for layout in LAYOUTS {
            let _ = feed(&mut RequestReader::new(layout), &bytes, piece);
            let mut reader = AnswerReader::new(layout, DeployedRequest::Info);
            let read = feed(&mut reader, &bytes, piece).unwrap_or_default();
            let again: Vec<u8> = read.iter().flat_map(|answer| answer.to_wire(layout)).collect();
            prop_assert!(bytes.starts_with(&again));
        }
    }
}
