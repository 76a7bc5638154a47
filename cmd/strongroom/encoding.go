package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// encodingTag is the tag in which az remembers how a value was made from a file.
const encodingTag = "file-encoding"

func textEncodings() []string   { return []string{"utf-8", "utf-16le", "utf-16be", "ascii"} }
func binaryEncodings() []string { return []string{"base64", "hex"} }

func checkEncoding(name string) error {
	if all := append(textEncodings(), binaryEncodings()...); !slices.Contains(all, name) {
		return usagef("--encoding %s: there are %s", name, strings.Join(all, ", "))
	}
	return nil
}

// encodeFile makes a secret's value from the content of a file, as az does: text is taken as it is, and the text
// encodings only limit what it may hold; bytes become base64 in lines of 76 characters, or hexadecimal digits.
func encodeFile(content []byte, encoding string) (string, error) {
	switch encoding {
	case "base64":
		return mimeBase64(content), nil
	case "hex":
		return hex.EncodeToString(content), nil
	}
	if !utf8.Valid(content) {
		return "", fmt.Errorf("the file is not UTF-8 text: use --encoding base64 or hex for bytes")
	}
	text := string(content)
	if encoding == "ascii" && strings.IndexFunc(text, func(r rune) bool { return r > 0x7f }) >= 0 {
		return "", fmt.Errorf("the file is not ASCII text: use --encoding utf-8")
	}
	return text, nil
}

// mimeBase64 is what az stores: RFC 2045 lines, each ended by a line feed.
func mimeBase64(content []byte) string {
	const line = 76
	all := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(all) > 0 {
		n := min(line, len(all))
		b.WriteString(all[:n])
		b.WriteByte('\n')
		all = all[n:]
	}
	return b.String()
}

// decodeValue makes the content of a file from a secret's value.
func decodeValue(value, encoding string) ([]byte, error) {
	switch encoding {
	case "base64":
		content, err := base64.StdEncoding.DecodeString(value) // ignores the ends of lines
		if err != nil {
			return nil, fmt.Errorf("the value is not base64: name its --encoding")
		}
		return content, nil
	case "hex":
		content, err := hex.DecodeString(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value is not hexadecimal: name its --encoding")
		}
		return content, nil
	}
	return []byte(value), nil
}
