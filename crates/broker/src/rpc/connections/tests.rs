use super::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

async fn listen() -> (
    std::net::SocketAddr,
    impl Stream<Item = io::Result<TcpStream>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = futures::stream::unfold(listener, |listener| async move {
        let stream = listener.accept().await.map(|(stream, _)| stream);
        Some((stream, listener))
    });
    (address, accepted)
}

#[tokio::test]
async fn the_one_too_many_is_told_the_next_closed_and_room_comes_back() {
    let (address, accepted) = listen().await;
    let bounds = Bounds {
        count_max: 1,
        told_count_max: 1,
        http1_count_max: 1,
    };
    let mut connections = std::pin::pin!(counted(accepted, bounds, CancellationToken::new()));
    let mut ends = vec![TcpStream::connect(address).await.unwrap()];
    let first = connections.next().await.unwrap().unwrap();
    assert!(first.standing.check().is_ok());
    ends.push(TcpStream::connect(address).await.unwrap());
    let second = connections.next().await.unwrap().unwrap();
    let refused = second.standing.check().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("1 connections"));
    let mut closed = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    tokio::select! {
        _ = connections.next() => panic!("the third is not to be served"),
        read = closed.read(&mut byte) => assert_eq!(read.unwrap(), 0),
    }
    drop((first, second));
    ends.push(TcpStream::connect(address).await.unwrap());
    let fourth = connections.next().await.unwrap().unwrap();
    assert!(fourth.standing.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_begin_is_closed() {
    let (address, accepted) = listen().await;
    let mut connections = std::pin::pin!(counted(
        accepted,
        Bounds::within(64),
        CancellationToken::new()
    ));
    let mut end = TcpStream::connect(address).await.unwrap();
    let mut connection = connections.next().await.unwrap().unwrap();
    end.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut begun = [0; 14];
    connection.read_exact(&mut begun).await.unwrap();
    let ended = connection.read(&mut begun).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn whoever_shows_no_token_is_closed_later() {
    for has_token in [false, true] {
        let (address, accepted) = listen().await;
        let mut connections = std::pin::pin!(counted(
            accepted,
            Bounds::within(64),
            CancellationToken::new()
        ));
        let mut end = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        end.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut begun = [0; 24];
        connection.read_exact(&mut begun).await.unwrap();
        let known = connection.connect_info();
        known.has_shown_token.store(has_token, Ordering::Relaxed);
        let began = Instant::now();
        let read = timeout(2 * TOKEN_PATIENCE, connection.read(&mut begun)).await;
        assert_eq!(read.is_ok(), !has_token);
        assert!(began.elapsed() >= TOKEN_PATIENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_not_begun_keeps_no_broker_from_stopping() {
    let (address, accepted) = listen().await;
    let stop = CancellationToken::new();
    let mut connections = std::pin::pin!(counted(accepted, Bounds::within(64), stop.clone()));
    let _end = TcpStream::connect(address).await.unwrap();
    let mut connection = connections.next().await.unwrap().unwrap();
    let mut byte = [0];
    let mut read = std::pin::pin!(connection.read(&mut byte));
    assert!(timeout(PATIENCE / 2, &mut read).await.is_err());
    stop.cancel();
    assert!(timeout(PATIENCE / 4, read).await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn those_of_http1_have_few_places_and_leave_those_of_http2_alone() {
    let (address, accepted) = listen().await;
    let bounds = Bounds {
        http1_count_max: 1,
        ..Bounds::within(64)
    };
    let mut connections = std::pin::pin!(counted(accepted, bounds, CancellationToken::new()));
    let mut ends = Vec::new();
    let mut begin = async |first: &[u8]| {
        let mut end = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        end.write_all(first).await.unwrap();
        ends.push(end);
        let mut begun = vec![0; first.len()];
        let read = connection.read_exact(&mut begun).await;
        read.map(|_| connection)
    };
    let request = b"PATCH / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = begin(request).await.unwrap();
    let refused = begin(request).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let _http2 = begin(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();

    // It has shown no token, and goes before one of HTTP/2 would.
    let began = Instant::now();
    let ended = first.read(&mut [0]).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    let waited = began.elapsed();
    assert!((HTTP1_TOKEN_PATIENCE..TOKEN_PATIENCE).contains(&waited));
    drop(first);
    begin(request).await.unwrap();
}

#[test]
fn files_are_left_to_the_store() {
    let check = |file_count| Bounds::within(file_count).count_max;
    assert_eq!(check(usize::MAX), CONNECTION_COUNT_MAX);
    assert_eq!(check(4096), 4096 - FILE_COUNT_RESERVE);
    assert_eq!(check(64), 32);
}
