package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/strongroom/strongroom/internal/server"
)

// javaFile is the trust store for Java (PKCS #12, RFC 7292): the authorities of the bundle.
const javaFile = "ca-truststore.p12"

// trustOption starts the options that name a trust store.
const trustOption = "-Djavax.net.ssl.trustStore"

// javaTrust writes a trust store with the authorities of bundle and adds it to the options that every Java program reads.
func javaTrust(dir, bundle string) (variable, error) {
	store := filepath.Join(dir, javaFile)
	v := variable{name: "JAVA_TOOL_OPTIONS"}
	if strings.ContainsAny(store, " \t\"'") {
		return v, fmt.Errorf("JAVA_TOOL_OPTIONS cannot hold the path %s: move the data folder to one without spaces and quotes", store)
	}
	raw, err := os.ReadFile(bundle)
	if err != nil {
		return v, err
	}
	pfx, err := encodeTrustStore(raw)
	if err != nil {
		return v, err
	}
	if err := server.ReplaceFile(store, pfx, 0o644); err != nil {
		return v, err
	}
	var options []string
	for option := range strings.FieldsSeq(os.Getenv(v.name)) {
		if !strings.HasPrefix(option, trustOption) {
			options = append(options, option)
		}
	}
	// The password is no secret: the store holds public certificates, and Java wants one.
	options = append(options, trustOption+"="+store, trustOption+"Type=PKCS12", trustOption+"Password="+pkcs12.DefaultPassword)
	v.value = strings.Join(options, " ")
	return v, nil
}

func encodeTrustStore(bundle []byte) ([]byte, error) {
	var entries []pkcs12.TrustStoreEntry
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // an authority of the system that Go refuses; nothing of ours depends on it
		}
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: fmt.Sprintf("authority-%d", len(entries)+1)})
	}
	return pkcs12.Modern2023.EncodeTrustStoreEntries(entries, pkcs12.DefaultPassword)
}
