// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Certificates and private keys from PEM files (RFC 7468), with the RSA form of PKCS #1 that certtool writes. */
final class Pem {
    private static final Pattern KEY =
            Pattern.compile("-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----([A-Za-z0-9+/=\\s]+)-----END \\1-----");
    private static final String[] ALGORITHMS = {"RSA", "EC", "EdDSA"};
    /** DER of version 0 and AlgorithmIdentifier rsaEncryption (RFC 5208, RFC 8017 A.1). */
    private static final byte[] RSA_PREFIX = HexFormat.of().parseHex("020100300d06092a864886f70d0101010500");

    private static final int SEQUENCE = 0x30;
    private static final int OCTET_STRING = 0x04;

    private Pem() {}

    static List<Certificate> certificates(Path file) throws IOException {
        try {
            byte[] pem = Files.readAllBytes(file);
            var found = CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(pem));
            if (found.isEmpty()) {
                throw new IOException(file + ": no certificate in it");
            }
            return List.copyOf(found);
        } catch (GeneralSecurityException e) {
            throw new IOException(file + ": " + e.getMessage(), e);
        }
    }

    static PrivateKey privateKey(Path file) throws IOException {
        Matcher matcher = KEY.matcher(Files.readString(file, StandardCharsets.US_ASCII));
        if (!matcher.find()) {
            throw new IOException(file + ": no private key in it, or an encrypted one");
        }
        byte[] der = Base64.getMimeDecoder().decode(matcher.group(2));
        switch (matcher.group(1)) {
            case "EC PRIVATE KEY" ->
                throw new IOException(
                        file + ": a key in the form of SEC 1; convert it with: openssl pkcs8 -topk8 -nocrypt");
            case "RSA PRIVATE KEY" -> der = fromPkcs1(der);
            default -> {}
        }
        for (String algorithm : ALGORITHMS) {
            try {
                return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(der));
            } catch (GeneralSecurityException e) {
                // not a key of this kind
            }
        }
        throw new IOException(file + ": a private key that is neither RSA nor EC nor EdDSA");
    }

    private static byte[] fromPkcs1(byte[] rsa) {
        byte[] octets = element(OCTET_STRING, new byte[0], rsa);
        return element(SEQUENCE, RSA_PREFIX, octets);
    }

    private static byte[] element(int tag, byte[] first, byte[] second) {
        int length = first.length + second.length;
        ByteArrayOutputStream der = new ByteArrayOutputStream(length + 6);
        der.write(tag);
        if (length < 128) {
            der.write(length);
        } else {
            der.write(0x83); // three bytes of length follow
            der.write(length >>> 16);
            der.write(length >>> 8);
            der.write(length);
        }
        der.writeBytes(first);
        der.writeBytes(second);
        return der.toByteArray();
    }
}
