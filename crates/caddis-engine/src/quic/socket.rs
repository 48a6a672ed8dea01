//! A worker's UDP socket, which hands datagrams of other workers' connections over to them.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use quinn_proto::RandomConnectionIdGenerator;
use tokio::sync::mpsc;

/// Two bytes for the worker, eight that are random.
const ID_LEN: usize = 10;
/// Datagrams that wait for a worker; more are lost, as on a full socket.
const MAX_WAITING: usize = 256;

/// A datagram on its way to another worker.
struct Parcel {
    meta: RecvMeta,
    data: Box<[u8]>,
}

/// What the sockets of an address share.
struct Ring {
    key: RandomState,
    inboxes: Vec<mpsc::Sender<Parcel>>,
}

/// A socket, not yet on its worker.
pub(crate) struct WorkerSocket {
    socket: UdpSocket,
    ring: Arc<Ring>,
    at: usize,
    inbox: mpsc::Receiver<Parcel>,
}

/// Makes the sockets of an address known to each other, in the order of the workers.
pub(super) fn share(sockets: Vec<UdpSocket>) -> Vec<WorkerSocket> {
    let (inboxes, receivers): (Vec<_>, Vec<_>) =
        sockets.iter().map(|_| mpsc::channel(MAX_WAITING)).unzip();
    let ring = Arc::new(Ring { key: RandomState::new(), inboxes });
    let sockets = sockets.into_iter().zip(receivers).enumerate();
    sockets
        .map(|(at, (socket, inbox))| WorkerSocket { socket, ring: ring.clone(), at, inbox })
        .collect()
}

/// The same, waiting for its first datagram.
pub(super) struct Waiting {
    socket: tokio::net::UdpSocket,
    rest: (Arc<Ring>, usize, mpsc::Receiver<Parcel>),
}

impl Waiting {
    /// Ready when there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Ends the waiting.
    pub(super) fn ready(self) -> io::Result<WorkerSocket> {
        let (ring, at, inbox) = self.rest;
        Ok(WorkerSocket { socket: self.socket.into_std()?, ring, at, inbox })
    }
}

impl WorkerSocket {
    /// To be called on the worker's thread.
    pub(super) fn waiting(self) -> io::Result<Waiting> {
        let Self { socket, ring, at, inbox } = self;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Waiting { socket, rest: (ring, at, inbox) })
    }

    /// To be called on the worker's thread.
    pub(super) fn open(self) -> io::Result<Shard> {
        let Self { socket, ring, at, inbox } = self;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Shard { socket, ring, at, inbox: Mutex::new(inbox) })
    }

    /// Makes ids for the worker's connections.
    pub(super) fn ids(&self) -> Arc<WorkerIds> {
        Arc::new(WorkerIds { ring: self.ring.clone(), at: self.at })
    }
}

/// Connection ids that tell the worker to those who know the key, and nobody else: they must not
/// link a client's addresses for an observer (RFC 9000 §5.1).
#[derive(Clone)]
pub(super) struct WorkerIds {
    ring: Arc<Ring>,
    at: usize,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = RandomConnectionIdGenerator::new(ID_LEN - 2).generate_cid();
        let worker = (self.at as u64 ^ self.ring.mask(&random)).to_le_bytes();
        ConnectionId::new(&[&worker[..2], &random].concat())
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Ring {
    fn mask(&self, random: &[u8]) -> u64 {
        self.key.hash_one(random)
    }

    /// The worker that a datagram is for, where it says so: packets with a short header do; those
    /// of a handshake come from the address that the kernel chose the worker by.
    fn worker_of(&self, datagram: &[u8]) -> Option<usize> {
        let (first, rest) = datagram.split_first()?;
        let id = rest.get(..ID_LEN)?;
        if first & 0x80 != 0 {
            return None;
        }
        let mask = self.mask(&id[2..]).to_le_bytes();
        let worker = usize::from(u16::from_le_bytes([id[0] ^ mask[0], id[1] ^ mask[1]]));
        (worker < self.inboxes.len()).then_some(worker)
    }
}

/// A worker's socket.
pub(super) struct Shard {
    socket: Arc<dyn AsyncUdpSocket>,
    ring: Arc<Ring>,
    at: usize,
    inbox: Mutex<mpsc::Receiver<Parcel>>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Shard {
    /// Sends away what is for others, and closes the gaps.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (mut read, mut kept) = (0, 0);
        let length = meta.len.min(buffer.len());
        while read < length {
            let end = read.saturating_add(meta.stride.max(1)).min(length);
            let datagram = &buffer[read..end];
            match self.ring.worker_of(datagram) {
                Some(worker) if worker != self.at => {
                    let mut meta = *meta;
                    (meta.len, meta.stride) = (datagram.len(), datagram.len());
                    // A full inbox loses it, as a full socket would.
                    let _ =
                        self.ring.inboxes[worker].try_send(Parcel { meta, data: datagram.into() });
                }
                _ => {
                    if kept != read {
                        buffer.copy_within(read..end, kept);
                    }
                    kept += end - read;
                }
            }
            read = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Shard {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let alone = self.ring.inboxes.len() == 1;
        if !alone && let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut()) {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            if let Poll::Ready(Some(parcel)) = inbox.poll_recv(cx)
                && let Some(space) = buffer.get_mut(..parcel.data.len())
            {
                space.copy_from_slice(&parcel.data);
                *meta = parcel.meta;
                return Poll::Ready(Ok(1));
            }
        }
        let count = ready!(self.socket.poll_recv(cx, buffers, metas))?;
        if !alone {
            for (buffer, meta) in buffers.iter_mut().zip(metas).take(count) {
                self.sort(buffer, meta);
            }
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: usize) -> Vec<Shard> {
        let sockets = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let sockets = sockets.inspect(|socket| socket.set_nonblocking(true).unwrap()).collect();
        share(sockets).into_iter().map(|socket| socket.open().unwrap()).collect()
    }

    fn packet(ids: &mut WorkerIds, len: usize, filling: u8) -> Vec<u8> {
        let mut packet = vec![0x40];
        packet.extend_from_slice(&ids.generate_cid());
        packet.resize(len, filling);
        packet
    }

    fn meta(len: usize, stride: usize) -> RecvMeta {
        RecvMeta { len, stride, ..RecvMeta::default() }
    }

    #[tokio::test]
    async fn ids_tell_the_worker() {
        let shards = shards(3);
        for shard in &shards {
            let mut ids = WorkerIds { ring: shard.ring.clone(), at: shard.at };
            for _ in 0..100 {
                let packet = packet(&mut ids, 30, 0);
                assert_eq!(shard.ring.worker_of(&packet), Some(shard.at));
                assert_eq!(shard.ring.worker_of(&packet[..8]), None);
                let long: Vec<u8> = [&[0xc0], &packet[1..]].concat();
                assert_eq!(shard.ring.worker_of(&long), None);
            }
        }
    }

    #[tokio::test]
    async fn foreign_datagrams_are_handed_over() {
        let shards = shards(2);
        let mut ids: Vec<_> = shards
            .iter()
            .map(|shard| WorkerIds { ring: shard.ring.clone(), at: shard.at })
            .collect();
        let (mine, other) = (packet(&mut ids[0], 40, 1), packet(&mut ids[1], 40, 2));
        let last = packet(&mut ids[0], 20, 3);
        let mut buffer = [&other[..], &mine, &other, &last].concat();
        let mut all = meta(buffer.len(), 40);
        shards[0].sort(&mut buffer, &mut all);
        assert_eq!(buffer[..all.len], [&mine[..], &last].concat());
        for _ in 0..2 {
            let mut space = [0; 100];
            let mut metas = [RecvMeta::default()];
            let received = std::future::poll_fn(|cx| {
                shards[1].poll_recv(cx, &mut [IoSliceMut::new(&mut space)], &mut metas)
            });
            assert_eq!(received.await.unwrap(), 1);
            assert_eq!(space[..metas[0].len], other);
        }
        // Rubbish stays where it came.
        let mut rubbish = vec![0; 5];
        let mut all = meta(5, 5);
        shards[0].sort(&mut rubbish, &mut all);
        assert_eq!(all.len, 5);
        // More than the inbox takes is lost, not kept.
        for _ in 0..2 * MAX_WAITING {
            let mut buffer = other.clone();
            let mut one = meta(40, 40);
            shards[0].sort(&mut buffer, &mut one);
            assert_eq!(one.len, 0);
        }
        assert_eq!(shards[1].inbox.lock().unwrap().len(), MAX_WAITING);
    }
}
