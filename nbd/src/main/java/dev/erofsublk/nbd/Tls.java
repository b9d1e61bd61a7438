// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManagerFactory;
import org.jspecify.annotations.Nullable;

/**
 * The certificates of a server, and whether clients must use them.
 *
 * <p>TLS 1.2 and, unless clients are verified, 1.3; X.509. Immutable and thread-safe.
 */
public final class Tls {
    private static final String[] ANY = {"TLSv1.3", "TLSv1.2"};
    /**
     * GnuTLS 3.7, the TLS of libnbd and qemu in Debian 12, sends an RSA certificate in TLS 1.3 only to a server that lists
     * PKCS #1 among its signature algorithms; JSSE, since JDK 24, lists it for certificates only (both observed).
     */
    private static final String[] WITH_CLIENT_CERTIFICATES = {"TLSv1.2"};

    private final SSLContext context;
    private final boolean required;
    private final boolean verifyClients;

    private Tls(SSLContext context, boolean required, boolean verifyClients) {
        this.context = context;
        this.required = required;
        this.verifyClients = verifyClients;
    }

    /**
     * Takes {@code server-cert.pem}, {@code server-key.pem} and, to verify clients, {@code ca-cert.pem} from a directory:
     * the names that nbdkit, qemu and libnbd use.
     *
     * @param required refuse everything before STARTTLS. Without it a man in the middle can talk both sides out of TLS
     *     (CVE-2019-14842)
     * @param verifyClients accept only clients with a certificate that {@code ca-cert.pem} has signed
     * @throws IOException naming the file that is missing or cannot be understood
     */
    public static Tls fromDirectory(Path directory, boolean required, boolean verifyClients) throws IOException {
        List<Certificate> chain = Pem.certificates(directory.resolve("server-cert.pem"));
        PrivateKey key = Pem.privateKey(directory.resolve("server-key.pem"));
        try {
            KeyStore keys = emptyStore();
            keys.setKeyEntry("server", key, new char[0], chain.toArray(new Certificate[0]));
            KeyStore trust = null;
            if (verifyClients) {
                trust = emptyStore();
                int i = 0;
                for (Certificate ca : Pem.certificates(directory.resolve("ca-cert.pem"))) {
                    trust.setCertificateEntry("ca" + i++, ca);
                }
            }
            return new Tls(context(keys, new char[0], trust), required, verifyClients);
        } catch (GeneralSecurityException e) {
            throw new IOException(directory + ": " + e.getMessage(), e);
        }
    }

    /**
     * Takes key and certificates from a PKCS #12 file. To verify clients, it has to hold the certificate that signs
     * theirs as a trusted one.
     *
     * @see #fromDirectory for the other parameters
     */
    public static Tls fromKeyStore(Path file, char[] password, boolean required, boolean verifyClients)
            throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(in, password);
            return new Tls(context(store, password, verifyClients ? store : null), required, verifyClients);
        } catch (GeneralSecurityException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
    }

    private static KeyStore emptyStore() throws GeneralSecurityException, IOException {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    private static SSLContext context(KeyStore keys, char[] password, @Nullable KeyStore trust)
            throws GeneralSecurityException {
        KeyManagerFactory managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        managers.init(keys, password);
        TrustManagerFactory trusted = null;
        if (trust != null) {
            trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trusted.init(trust);
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(managers.getKeyManagers(), trusted == null ? null : trusted.getTrustManagers(), null);
        return context;
    }

    Handshake.Upgrade upgrade(Arena arena, Wire plain) {
        return new Handshake.Upgrade() {
            @Override
            public boolean isRequired() {
                return required;
            }

            @Override
            public Wire start() throws IOException {
                SSLEngine engine = context.createSSLEngine();
                engine.setUseClientMode(false);
                engine.setNeedClientAuth(verifyClients);
                engine.setEnabledProtocols(verifyClients ? WITH_CLIENT_CERTIFICATES : ANY);
                TlsWire wire = new TlsWire(arena, plain, engine);
                wire.handshake();
                return wire;
            }
        };
    }
}
