//! Keys that are pushed to a connected node, over each service version.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::pool::{Agent, Pool, TestNetwork, until};
use kes_wire::cold::ColdSignKey;
use kes_wire::envelope;
use kes_wire::net::{self, ControlClient, ServiceClient, ServiceClientError};
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{
    Answer, IfPending, ImportedOpCert, PendingStatus, Request, Status,
};
use kes_wire::protocol::handshake::Kind;
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult, ServiceVersion};
use kes_wire::protocol::version::{SERVICE_0_4, SERVICE_1_0, SERVICE_2_0, VersionId};
use kes_wire::sum6kes::{SignKey, VerificationKey};
use tokio::net::UnixStream;

/// A pool's agent, with its cold key and a control connection at hand.
struct Operator {
    pool: Pool,
    _agent: Agent,
    cold: ColdSignKey,
    control: ControlClient,
}

impl Operator {
    async fn new() -> Self {
        let pool = Pool::new(TestNetwork::default());
        let agent = pool.agent();
        let cold = envelope::read_cold_skey_file(&pool.path("cold.skey")).unwrap();
        let control = ControlClient::connect(&pool.path("control.socket"))
            .await
            .unwrap();
        Self {
            pool,
            _agent: agent,
            cold,
            control,
        }
    }

    async fn done(&mut self, request: Request) -> Status {
        match self.control.call(&request).await.unwrap() {
            Answer::Done { status, .. } => status,
            Answer::Refused { refusal } => panic!("{refusal:?}"),
        }
    }

    /// Generates, certifies and installs a key whose certificate starts in this period.
    async fn install(&mut self, counter: u64, start: u64) -> VerificationKey {
        let status = self
            .done(Request::Keygen {
                if_pending: IfPending::Refuse,
            })
            .await;
        let PendingStatus::Key { vkey } = status.pending else {
            panic!("{:?}", status.pending)
        };
        let opcert = self.cold.issue(&vkey, counter, KesPeriod(start)).unwrap();
        let import = Some(ImportedOpCert {
            opcert,
            cold_vkey: None,
            replace: false,
        });
        self.done(Request::Activate {
            import,
            allow_lower_counter: false,
        })
        .await;
        vkey
    }

    /// A node that speaks this version alone.
    async fn node(&self, spoken: &'static [VersionId]) -> ServiceClient {
        let stream = UnixStream::connect(self.pool.path("service.socket"))
            .await
            .unwrap();
        let deadline = net::CLIENT_DEADLINE;
        let id = net::client_handshake(&stream, Kind::Service, spoken, deadline)
            .await
            .unwrap();
        ServiceClient::new(stream, ServiceVersion::from_id(id).unwrap()).unwrap()
    }
}

/// The next key, checked whole and confirmed.
async fn receive(node: &mut ServiceClient) -> (VerificationKey, Evolution) {
    match node.next().await.unwrap() {
        ServiceMessage::Dropped { .. } => panic!("a key"),
        ServiceMessage::Key(ReceivedKey {
            secret,
            evolution,
            opcert,
            ..
        }) => {
            SignKey::from_bytes(secret, evolution, &opcert.kes_vkey).unwrap();
            node.answer(ServiceResult::Ok).await.unwrap();
            (opcert.kes_vkey, evolution)
        }
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_pushed_key_that_must_evolve_first_arrives_evolved_each_time() {
    run(async {
        let mut operator = Operator::new().await;
        let mut node = operator.node(&[SERVICE_2_0]).await;
        // Of 200 such pushes the reference breaks off 150 and more, and sends the others unevolved.
        for round in 0..1000 {
            let behind = round % 60 + 1;
            let installed = operator.install(round, 1000 - behind).await;
            let (vkey, evolution) = receive(&mut node).await;
            assert_eq!(vkey, installed);
            assert_eq!(u64::from(evolution.0), behind, "round {round}");
        }
    });
}

#[test]
fn over_the_older_versions_a_client_comes_back_for_news() {
    run(async {
        for spoken in [&[SERVICE_1_0], &[SERVICE_0_4]] {
            let mut operator = Operator::new().await;
            // Connected before there is a key: the first one is pushed.
            let mut node = operator.node(spoken).await;
            let first = operator.install(0, 998).await;
            assert_eq!(receive(&mut node).await, (first, Evolution(2)));
            // A second key: the connection is closed, and the next one has it.
            let second = operator.install(1, 1000).await;
            assert!(matches!(node.next().await, Err(ServiceClientError::Closed)));
            let mut node = operator.node(spoken).await;
            assert_eq!(receive(&mut node).await, (second, Evolution(0)));
            // A drop: closed again, and there is nothing to come back for.
            operator.done(Request::DropActive {}).await;
            assert!(matches!(node.next().await, Err(ServiceClientError::Closed)));
            let mut node = operator.node(spoken).await;
            until("the node to be known", || {
                (operator.pool.status()["connected_nodes"] == 1).then_some(())
            });
            // It is not closed for news that it cannot be told: the next key is pushed.
            let third = operator.install(2, 1000).await;
            assert_eq!(receive(&mut node).await, (third, Evolution(0)));
        }
    });
}

#[test]
fn a_drop_says_how_many_nodes_cannot_be_told() {
    run(async {
        let mut operator = Operator::new().await;
        let mut nodes = Vec::new();
        for spoken in [&[SERVICE_2_0], &[SERVICE_1_0], &[SERVICE_0_4]] {
            nodes.push(operator.node(spoken).await);
        }
        operator.install(0, 1000).await;
        for node in &mut nodes {
            receive(node).await;
        }
        let dropped = operator.pool.cli(&["drop-active"]).succeeded();
        let notes = dropped["notes"].as_array().unwrap();
        assert_eq!(notes.len(), 1, "{dropped}");
        assert_eq!(notes[0]["code"], "nodes-not-told");
        let sentence = notes[0]["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("2 nodes"), "{sentence}");
        // With those gone that have no word for it, there is nothing to say.
        nodes.truncate(1);
        until("the older nodes to be gone", || {
            (operator.pool.status()["connected_nodes"] == 1).then_some(())
        });
        operator.install(1, 1000).await;
        let dropped = operator.pool.cli(&["drop-active"]).succeeded();
        assert_eq!(dropped["notes"].as_array().unwrap().len(), 0, "{dropped}");
    });
}

#[test]
fn what_was_replaced_before_a_node_had_answered_is_never_sent() {
    run(async {
        for round in 0..4 {
            let mut operator = Operator::new().await;
            let mut node = operator.node(&[SERVICE_2_0]).await;
            let mut slow = operator.node(&[SERVICE_2_0]).await;
            let first = operator.install(0, 1000).await;
            let next = async |node: &mut ServiceClient| match node.next().await.unwrap() {
                ServiceMessage::Key(key) => Some(key.opcert.kes_vkey),
                ServiceMessage::Dropped { .. } => None,
            };
            // One has not answered while three more keys come, and on odd rounds a drop.
            assert_eq!(next(&mut slow).await, Some(first));
            assert_eq!(receive(&mut node).await.0, first);
            let mut newest = Some(first);
            for counter in 1..4 {
                newest = Some(operator.install(counter, 1000).await);
                // They were sent: another node has each.
                assert_eq!(Some(receive(&mut node).await.0), newest);
            }
            if round % 2 == 1 {
                operator.done(Request::DropActive {}).await;
                newest = None;
            }
            slow.answer(ServiceResult::Ok).await.unwrap();
            assert_eq!(next(&mut slow).await, newest, "round {round}");
            // Nothing is behind it but what comes later.
            slow.answer(ServiceResult::Ok).await.unwrap();
            let last = operator.install(4, 1000).await;
            assert_eq!(next(&mut slow).await, Some(last), "round {round}");
        }
    });
}
