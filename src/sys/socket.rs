//! Message sockets between our own programs: local, connection-oriented, whole messages, descriptors
//! attached.

use super::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors one message carries.
pub const MAX_FDS: usize = 4;

/// The longest message.
pub const MAX_MESSAGE: usize = 8192;

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

/// A connected pair of non-blocking sockets.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)
}

/// Listens at `path`, in place of whatever socket was there. Keep paths short and relative: 107 bytes.
pub fn listen(path: &str) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// Connects to `path`. The result is non-blocking.
pub fn connect(path: &str) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Takes the next connection off a listening socket.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, flags())
}

/// The process at the other end, as it was when it connected.
pub fn peer(socket: impl AsFd) -> Option<rustix::net::UCred> {
    rustix::net::sockopt::socket_peercred(socket).ok()
}

/// Sends one message, whole or not at all. Never blocks, never raises SIGPIPE.
pub fn send(socket: impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut control, flags).map(drop)
}

/// The most descriptors that [`send_many`] sends.
pub const MANY_FDS: usize = 64;

/// Sends a message that is there for its descriptors only.
pub fn send_many(socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MANY_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(b"+")], &mut control, flags).map(drop)
}

/// Copies of the descriptors in one such message, which stays where it is: as many as there were numbers for.
pub fn peek_many(socket: impl AsFd) -> Result<Vec<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MANY_FDS))];
    receive_with(socket, &mut [0; 1], &mut space, RecvFlags::PEEK).map(|received| received.fds)
}

/// What one [`receive`] brought.
pub struct Received {
    /// Bytes of the message; 0 when the other end is gone.
    pub len: usize,
    /// The descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Receives one message into `buf`. `Err(AGAIN)` when there is none.
pub fn receive(socket: impl AsFd, buf: &mut [u8]) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    receive_with(socket, buf, &mut space, RecvFlags::empty())
}

fn receive_with(
    socket: impl AsFd,
    buf: &mut [u8],
    space: &mut [MaybeUninit<u8>],
    how: RecvFlags,
) -> Result<Received, Errno> {
    let mut control = RecvAncillaryBuffer::new(space);
    let flags = how | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Received { len: got.bytes, fds })
}
