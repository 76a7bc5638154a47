package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf8"
)

// A sum is the SHA-256 of a line without its newline.
type sum = [sha256.Size]byte

// sumText is the length of a sum in base64url.
const sumText = 43

// cutMark ends a string that was cut.
const cutMark = "…[cut]"

// What a line starts with, and what its last member starts with. Inside a JSON string neither can occur, for there every
// quotation mark has a backslash before it.
const (
	linePrefix  = `{"time":"`
	chainPrefix = `,"chain":{"seq":`
	chainPrev   = `,"prev":"`
	chainEnd    = `"}}`
)

// timeLayout is the form of a line's time: UTC, 100 ns, as Azure writes it.
const timeLayout = "2006-01-02T15:04:05.0000000Z"

// appendRecord appends r as JSON up to, not including, the chain member, which only the writer knows.
func appendRecord(b []byte, r *Record, at time.Time) []byte {
	category := r.Category
	if category == "" {
		category = Event
	}
	b = append(b, linePrefix...)
	b = appendTime(b, at)
	b = append(b, `","resourceId":`...)
	start := len(b)
	b = appendString(b, r.ResourceID, maxResourceID)
	upper(b[start:])
	b = append(b, `,"operationName":`...)
	b = appendString(b, r.Operation, maxOperation)
	b = append(b, `,"operationVersion":`...)
	b = appendString(b, r.APIVersion, maxVersion)
	b = append(b, `,"category":`...)
	b = appendString(b, string(category), maxCategory)
	b = append(b, `,"resultType":`...)
	b = appendString(b, r.ResultType, maxResultType)
	b = append(b, `,"resultSignature":`...)
	b = appendString(b, r.ResultSignature, maxSignature)
	b = append(b, `,"resultDescription":`...)
	b = appendString(b, r.ResultDescription, maxDescription)
	b = append(b, `,"durationMs":"`...)
	b = strconv.AppendInt(b, max(r.Duration.Milliseconds(), 0), 10)
	b = append(b, `","callerIpAddress":`...)
	b = appendString(b, r.CallerIP, maxIP)
	b = append(b, `,"correlationId":`...)
	b = appendString(b, r.CorrelationID, maxCorrelation)
	b = appendIdentity(b, r)
	b = append(b, `,"properties":{"clientInfo":`...)
	b = appendString(b, r.ClientInfo, maxClientInfo)
	b = append(b, `,"requestUri":`...)
	b = appendString(b, r.RequestURI, maxURI)
	b = append(b, `,"id":`...)
	b = appendString(b, r.ID, maxID)
	if r.HTTPStatus != 0 {
		b = append(b, `,"httpStatusCode":`...)
		b = strconv.AppendInt(b, int64(r.HTTPStatus), 10)
	}
	if r.Detail != "" {
		b = append(b, `,"detail":`...)
		b = appendString(b, r.Detail, maxDetail)
	}
	return append(b, '}')
}

// appendIdentity appends the identity member with the claims that are not empty.
func appendIdentity(b []byte, r *Record) []byte {
	b = append(b, `,"identity":{"claim":{`...)
	start := len(b)
	if r.ObjectID != "" {
		b = append(b, `,"http://schemas.microsoft.com/identity/claims/objectidentifier":`...)
		b = appendString(b, r.ObjectID, maxObjectID)
	}
	if r.UPN != "" {
		b = append(b, `,"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn":`...)
		b = appendString(b, r.UPN, maxUPN)
	}
	if r.AppID != "" {
		b = append(b, `,"appid":`...)
		b = appendString(b, r.AppID, maxAppID)
	}
	if len(b) > start { // the first claim has no comma before it
		b = append(b[:start], b[start+1:]...)
	}
	return append(b, "}}"...)
}

// appendChain completes a line. The first line ever (seq 1) has an empty prev.
func appendChain(b []byte, seq uint64, prev *sum) []byte {
	b = append(b, chainPrefix...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, chainPrev...)
	if seq > 1 {
		b = base64.RawURLEncoding.AppendEncode(b, prev[:])
	}
	return append(b, chainEnd...)
}

// parseChain returns the chain member of a line. It accepts exactly what appendChain writes.
func parseChain(line []byte) (seq uint64, prev []byte, ok bool) {
	at := bytes.LastIndex(line, []byte(chainPrefix))
	if at < 0 {
		return 0, nil, false
	}
	number, rest, ok := bytes.Cut(line[at+len(chainPrefix):], []byte(chainPrev))
	if !ok || len(number) == 0 || len(number) > 20 || number[0] == '0' {
		return 0, nil, false
	}
	seq, err := strconv.ParseUint(string(number), 10, 64)
	prev, ok = bytes.CutSuffix(rest, []byte(chainEnd))
	if err != nil || !ok {
		return 0, nil, false
	}
	if seq == 1 {
		return seq, prev, len(prev) == 0
	}
	var s sum
	if len(prev) != sumText {
		return 0, nil, false
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(s[:], prev); err != nil || n != len(s) {
		return 0, nil, false
	}
	return seq, prev, true
}

// appendTime appends t in timeLayout. A time whose year does not fit becomes the zero time, for the line must stay valid.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		t = time.Time{}
	}
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendTwo(b, year/100)
	b = appendTwo(b, year%100)
	b = appendTwo(append(b, '-'), int(month))
	b = appendTwo(append(b, '-'), day)
	b = appendTwo(append(b, 'T'), hour)
	b = appendTwo(append(b, ':'), minute)
	b = appendTwo(append(b, ':'), second)
	ticks := t.Nanosecond() / 100
	b = append(b, '.', byte('0'+ticks/1_000_000))
	b = appendTwo(b, ticks/10_000%100)
	b = appendTwo(b, ticks/100%100)
	b = appendTwo(b, ticks%100)
	return append(b, 'Z')
}

// appendTwo appends v, which is below 100, as two digits.
func appendTwo(b []byte, v int) []byte { return append(b, byte('0'+v/10), byte('0'+v%10)) }

// upper puts an encoded string in upper case, ASCII letters only. The letters of an escape sequence stay as they are.
func upper(b []byte) {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	done := 0
	// Eight bytes at a time, while they are ASCII and none begins an escape sequence: a lane's top bit tells whether the
	// byte reaches a bound, and moved down by two it is the bit between the cases.
	for ; len(b)-done >= 8; done += 8 {
		x := binary.LittleEndian.Uint64(b[done:])
		if slash := x ^ ones*'\\'; (x|(slash-ones))&tops != 0 {
			break
		}
		lower := (x + ones*(0x80-'a')) &^ (x + ones*(0x80-'z'-1)) & tops
		binary.LittleEndian.PutUint64(b[done:], x^lower>>2)
	}
	for i := done; i < len(b); i++ {
		switch c := b[i]; {
		case 'a' <= c && c <= 'z':
			b[i] = c - ('a' - 'A')
		case c == '\\' && b[i+1] == 'u':
			i += 5
		case c == '\\':
			i++
		case c == cutMark[0] && bytes.HasPrefix(b[i:], []byte(cutMark)):
			i += len(cutMark) - 1
		}
	}
}

// appendString appends s as a JSON string of at most limit bytes between its quotation marks.
func appendString(b []byte, s string, limit int) []byte {
	b = append(b, '"')
	start := len(b)
	if len(s) <= limit {
		b = append(b, s...)
		if plain(b[start:]) {
			return append(b, '"')
		}
		b = b[:start]
	}
	return append(appendEscaped(b, s, limit), '"')
}

// appendEscaped appends s escaped, and cut when that takes more than limit bytes.
func appendEscaped(b []byte, s string, limit int) []byte {
	start := len(b)
	cut := start // where cutMark still fits
	for i := 0; i < len(s); {
		c, size := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRuneInString(s[i:])
		}
		b = appendRune(b, c)
		i += size
		if len(b)-start > limit {
			return append(b[:cut], cutMark...)
		}
		if len(b)-start <= limit-len(cutMark) {
			cut = len(b)
		}
	}
	return b
}

// appendRune appends one character of a JSON string. Beyond what JSON asks for it escapes DEL and the C1 controls, which
// a terminal obeys, and U+2028 and U+2029, which some readers take for the end of a line.
func appendRune(b []byte, c rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return append(b, '\\', byte(c))
	case c == '\n':
		return append(b, `\n`...)
	case c == '\r':
		return append(b, `\r`...)
	case c == '\t':
		return append(b, `\t`...)
	case c < 0x20 || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029:
		return append(b, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
	}
	return utf8.AppendRune(b, c)
}

// plain reports whether b is ASCII without anything to escape. It looks at eight bytes at a time: subtracting a lane's
// bound sets the lane's top bit when the byte is smaller, and a borrow can only come from a lane that is smaller itself.
func plain(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		quote, slash, del := x^ones*'"', x^ones*'\\', x^ones*0x7f
		bad := x | (x - ones*0x20) | (quote - ones) | (slash - ones) | (del - ones)
		if bad&tops != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
