// Package audit is the record of every attempt and of every outcome.
//
// A record is one line of JSON in the shape of Azure Key Vault's resource log (category AuditEvent, "Azure Key Vault
// logging"), with one more member at its end, chain, which ties each line to the one before it by SHA-256. A line that was
// changed, removed, inserted or moved breaks the chain, and Verify says where. Whoever can write to the file can also
// compute a new chain; what he cannot change is a Head that was kept elsewhere (see Config.Anchor and Config.OnSync).
//
// Rules for the caller: no record, no effect; no outcome recorded, no answer. An operation with an effect writes one
// record of category Intent before the effect; every request writes exactly one record of category Event before its
// answer leaves. Both carry the same correlation id.
//
// The log itself adds records, all with an operation name that starts with "Audit": see the Op constants.
//
// Trust: the caller is trusted to hand over no secret (Record.RequestURI must be free of them already). Every string is
// taken as hostile: it is escaped, and cut to a fixed maximum, so that it can neither forge nor flood a line.
package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// A Category says whether a record tells an intent or an outcome.
type Category string

const (
	// Event is the outcome of a request. It is also what an empty Category means.
	Event Category = "AuditEvent"
	// Intent is written before an operation's effect. It has no result yet.
	Intent Category = "AuditIntent"
)

// Values of Record.ResultType.
const (
	Success = "Success"
	Failure = "Failure"
)

// Operation names of the records that the log writes about itself.
const (
	// OpRecovered: when the file was opened, its end was no whole record. It was cut off and saved beside the file.
	OpRecovered = "AuditRecovered"
	// OpGap: when the file was opened, it did not hold the line that the anchor names.
	OpGap = "AuditGap"
	// OpContinued: the first line of a new file after Reopen. Its chain continues the previous file's.
	OpContinued = "AuditContinued"
	// OpResumed: for a while records could not be written, so that many requests were refused.
	OpResumed = "AuditResumed"
)

// ErrUnavailable is wrapped by every error of Log.Write: the record is not known to have been written, so the effect
// must not happen and the answer must not leave.
var ErrUnavailable = errors.New("audit: the record cannot be written")

// A Record is one line of the log. Strings longer than the maximum named beside them (bytes as they stand in the line,
// after escaping) are cut on a rune boundary and end in "…[cut]". Invalid UTF-8 becomes U+FFFD.
type Record struct {
	Time              time.Time     // when the request arrived; zero means the time of writing
	ResourceID        string        // ARM id of the vault or managed HSM; ASCII letters are put in upper case; 1024
	Operation         string        // operation name of Azure's log, such as "SecretGet"; 128
	APIVersion        string        // api-version of the request; 64
	Category          Category      // 32
	ResultType        string        // Success, Failure, or empty for an Intent; 32
	ResultSignature   string        // status text, such as "Not Found"; 64
	ResultDescription string        // why; never with a secret in it; 2048
	Duration          time.Duration // written in whole milliseconds
	CallerIP          string        // 64
	CorrelationID     string        // the request id, the same in intent and outcome; 128
	ObjectID          string        // claim oid; 128. An empty claim is left out of the line
	UPN               string        // claim upn; 512
	AppID             string        // claim appid; 128
	ClientInfo        string        // User-Agent; 1024
	RequestURI        string        // already free of secrets; 4096
	ID                string        // id of the object that the request was about; 2048
	HTTPStatus        int           // left out when zero
	Detail            string        // of a change of rights or of a security domain: who gets or loses which; 2048. An empty one is left out of the line
}

// Maxima of the strings of a Record.
const (
	maxResourceID  = 1024
	maxOperation   = 128
	maxVersion     = 64
	maxCategory    = 32
	maxResultType  = 32
	maxSignature   = 64
	maxDescription = 2048
	maxIP          = 64
	maxCorrelation = 128
	maxObjectID    = 128
	maxUPN         = 512
	maxAppID       = 128
	maxClientInfo  = 1024
	maxURI         = 4096
	maxID          = 2048
	maxDetail      = 2048
)

// MaxLine is the length that no line exceeds, without its newline. Verify takes a longer one for damage.
const MaxLine = 16 << 10

// A Head is a position in the chain: a line's number and the hash of its bytes. The zero Head is before the first line.
type Head struct {
	Seq  uint64 // 1 for the first line ever
	Hash string // SHA-256 of the line without its newline, base64url without padding
}

// Beyond is what a log holds after a line that is remembered elsewhere. Some is usual when the last who wrote was killed:
// what is remembered lags behind. Much says that what is remembered is old.
type Beyond struct {
	Lines uint64        // how many lines
	Span  time.Duration // about how much later the last was written than the first, as far as their file tells
}

// String gives the form in which heads stand in messages.
func (h Head) String() string {
	if h.Seq == 0 {
		return "0 (no line)"
	}
	return fmt.Sprintf("%d (%s)", h.Seq, h.Hash)
}

// sum parses the hash.
func (h Head) sum() (s sum, err error) {
	if h.Seq == 0 {
		if h.Hash != "" {
			return s, errors.New("audit: a head with seq 0 has no hash")
		}
		return s, nil
	}
	n, err := base64.RawURLEncoding.Strict().Decode(s[:], []byte(h.Hash[:min(len(h.Hash), sumText)]))
	if err != nil || n != len(s) || len(h.Hash) != sumText {
		return s, fmt.Errorf("audit: head %d has a malformed hash", h.Seq)
	}
	return s, nil
}
