//! Exchanges by raw bytes, and addresses that refuse connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::ErrorKind;

use mcpctl_testkit::{
    daemons::closed_address,
    exchange::{self, ConnectionEnd},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The server keeps the connection, so only the number of responses can end the exchange in time.
#[tokio::test]
async fn exchange_ends_with_the_expected_responses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        for status in ["404", "200"] {
            stream.read_exact(&mut byte).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes()).await.unwrap();
            // The client runs on this thread too, and reads one response at a time.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        // Ends when the client closes the connection.
        let _ = stream.read(&mut byte).await;
    });
    let exchange = exchange::send_and_wait(&address, "ab", 2).await;
    assert_eq!((exchange.statuses(), exchange.end), (vec![404, 200], ConnectionEnd::Silent));
    server.await.unwrap();
}

#[tokio::test]
async fn closed_address_refuses_connections_and_stays_taken() {
    let address = closed_address();
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(TcpListener::bind(address).await.unwrap_err().kind(), ErrorKind::AddrInUse);
}
