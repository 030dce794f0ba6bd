//! Datagrams of the `sd_notify` kind: sockets that receive them, and who sent one, with which descriptors.

use super::{Errno, last_errno};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A datagram that is longer than this is cut.
pub const MOST: usize = 4096;

/// The most descriptors that the kernel lets one datagram carry.
const MOST_FDS: usize = 253;

/// The longest name of a socket, in bytes.
pub const LONGEST_NAME: usize = 107;

/// What lies at the head of a socket's queue.
pub struct Datagram {
    /// Its bytes, at most [`MOST`].
    pub bytes: Vec<u8>,
    /// It was longer.
    pub cut: bool,
    /// The pid of the sender, as the kernel says it; 0: it is in no PID namespace that we see.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Copies of the descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// A socket that receives datagrams at a path, or at an abstract name (it begins with `@`), and is told who sends
/// each. Whoever can come to the path may send.
pub fn bind(name: &str) -> Result<OwnedFd, Errno> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        None => SocketAddrUnix::new(name)?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // Before anybody can send: who was not asked about cannot be told.
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The datagram at the head of the queue, which stays there. `None`: there is none.
pub fn peek(socket: impl AsFd) -> Option<Datagram> {
    receive(socket, libc::MSG_PEEK).ok()
}

/// Takes it off the queue. What it carries is closed.
pub fn consume(socket: impl AsFd) {
    let _ = receive(socket, 0);
}

fn receive(socket: impl AsFd, how: libc::c_int) -> Result<Datagram, Errno> {
    /// As the kernel wants it aligned.
    #[repr(C, align(8))]
    struct Space([MaybeUninit<u8>; 1088]);
    const { assert!(1088 >= 16 + MOST_FDS * 4 + 8 + 16 + 16) };
    let mut bytes = vec![0u8; MOST];
    let mut space = Space([MaybeUninit::uninit(); 1088]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MOST };
    // SAFETY: all zeros are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut space).cast();
    header.msg_controllen = size_of::<Space>() as _;
    let flags = how | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header speaks of buffers that live on and of their true lengths.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let Ok(len) = usize::try_from(got) else { return Err(last_errno()) };
    bytes.truncate(len);
    let cut = header.msg_flags & libc::MSG_TRUNC != 0;
    let mut datagram = Datagram { bytes, cut, pid: 0, uid: u32::MAX, fds: Vec::new() };
    // SAFETY: the kernel wrote whole control messages into the buffer that the header speaks of, and the macros
    // stay within it. Descriptors that came are new and have no other owner.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(head) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            // Another type with another C library.
            let whole: usize = head.cmsg_len as _;
            let len = whole.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let numbers = (0..len / 4).map(|n| data.cast::<RawFd>().add(n).read_unaligned());
                    datagram.fds.extend(numbers.map(|fd| OwnedFd::from_raw_fd(fd)));
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
                    let sender = data.cast::<libc::ucred>().read_unaligned();
                    (datagram.pid, datagram.uid) = (sender.pid, sender.uid);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg_addr};
    use std::io::IoSlice;

    #[test]
    fn who_sent_what_and_with_what() {
        let name = format!("perennial-datagram-{}", std::process::id());
        let socket = bind(&format!("@{name}")).unwrap();
        assert!(peek(&socket).is_none());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let from =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        for length in [0, 3, MOST, MOST + 1] {
            let bytes = vec![b'x'; length];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [reader.as_fd(), writer.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg_addr(&from, &address, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
            for _ in 0..2 {
                let datagram = peek(&socket).unwrap();
                assert_eq!((datagram.bytes.len(), datagram.cut), (length.min(MOST), length > MOST));
                assert_eq!((datagram.pid, datagram.fds.len()), (std::process::id() as i32, 2));
                assert_eq!(datagram.uid, rustix::process::getuid().as_raw());
            }
            consume(&socket);
            assert!(peek(&socket).is_none());
        }
    }
}
