//! Versions of TLS that can be had.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// A version of the TLS protocol; older ones are broken and not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// This version and all later ones.
    pub(crate) fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        const FROM_1_2: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        const FROM_1_3: &[&SupportedProtocolVersion] = &[&TLS13];
        match self {
            Self::V1_2 => FROM_1_2,
            Self::V1_3 => FROM_1_3,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

    use super::TlsVersion;
    use crate::testing::{Authority, accept, listener, pair, server_tls};
    use crate::tls::verify::{Check, Verifier};
    use crate::tls::{ALPN, Channel, ClientTls, SslMode, TlsError, provider};
    use crate::{ConnectError, SocketOptions, Stream, accept_tls_direct, connect_tls};

    /// What becomes of a client that speaks TLS 1.2 and nothing else.
    async fn meet_an_old_client(oldest: TlsVersion) -> Result<Stream, TlsError> {
        let own = Authority::new().issue("server", &[]);
        let tls = ClientTls::at_least(oldest, SslMode::Require, own, None).unwrap();
        let verifier = Verifier {
            check: Check::Nothing,
            provider: provider(),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (near, far) = pair().await;
        let name = "localhost".try_into().unwrap();
        let connection = Connection::Client(ClientConnection::new(Arc::new(config), name).unwrap());
        let mut channel = Box::new(Channel::new(near.into_plain().unwrap(), connection, None));
        let (_near, far) = tokio::join!(channel.handshake(), accept_tls_direct(far, &tls));
        far
    }

    /// What becomes of a server that speaks TLS 1.2 and nothing else.
    async fn meet_an_old_server(oldest: TlsVersion) -> Result<Stream, ConnectError> {
        let own = Authority::new().issue("server", &[]);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(own.chain, own.key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (listener, target) = listener();
        let tls = server_tls(SslMode::Require, |options| {
            options.direct = true;
            options.oldest = oldest;
        });
        let options = SocketOptions::default();
        let (near, _far) = tokio::join!(connect_tls(&target, &options, &tls), async {
            let socket = accept(&listener).await.into_plain().unwrap();
            let connection = Connection::Server(ServerConnection::new(Arc::new(config)).unwrap());
            Channel::new(socket, connection, None).handshake().await
        });
        near
    }

    #[tokio::test]
    async fn an_old_server_is_spoken_to_only_if_it_may_be() {
        let stream = meet_an_old_server(TlsVersion::V1_2).await.unwrap();
        assert_eq!(stream.tls_info().unwrap().version, "TLSv1.2");
        let refused = meet_an_old_server(TlsVersion::V1_3).await;
        let by_handshake = matches!(
            refused,
            Err(ConnectError::Tls {
                source: TlsError::Handshake(_),
                ..
            })
        );
        assert!(by_handshake, "{refused:?}");
    }

    #[tokio::test]
    async fn an_old_version_is_spoken_only_if_it_may_be() {
        let stream = meet_an_old_client(TlsVersion::V1_2).await.unwrap();
        assert_eq!(stream.tls_info().unwrap().version, "TLSv1.2");
        let refused = meet_an_old_client(TlsVersion::V1_3).await;
        assert!(
            matches!(refused, Err(TlsError::Handshake(_))),
            "{refused:?}"
        );
    }
}
