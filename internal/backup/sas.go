package backup

import (
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Access is what opens a container: a SAS token, or a credential if there is none. It prints as REDACTED.
type Access struct {
	SAS        string // with or without the leading question mark
	Credential azcore.TokenCredential
}

const redacted = "REDACTED"

// String returns REDACTED.
func (Access) String() string { return redacted }

// GoString returns REDACTED.
func (Access) GoString() string { return redacted }

// LogValue returns REDACTED.
func (Access) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns REDACTED: who stores a token does so on purpose.
func (Access) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

const (
	maxSAS = 4096

	// badSAS begins the messages about a token, in the service's words.
	badSAS = "The customer provided SAS token is malformed. "
)

// sasMember matches the names of what a SAS token may have. Others, such as comp or restype, would make another
// request of each one.
var sasMember = regexp.MustCompile(`^(s[a-z]{1,6}|rsc[cdelt])$`)

// parseSAS checks a token and returns it as a query, and when it expires.
func parseSAS(token string) (query string, expires time.Time, err error) {
	token = strings.TrimPrefix(token, "?")
	if len(token) > maxSAS {
		return "", expires, newError(BadSAS, badSAS+"The SAS token has %d characters; %d are allowed", len(token), maxSAS)
	}
	members, err := url.ParseQuery(token)
	if err != nil {
		return "", expires, newError(BadSAS, badSAS+"The SAS token is not a query string")
	}
	for name, values := range members {
		if !sasMember.MatchString(name) || len(values) > 1 {
			return "", expires, newError(BadSAS, badSAS+"The SAS token contains the field %.20q, which is unknown or repeated", name)
		}
	}
	if members.Get("sig") == "" {
		return "", expires, newError(BadSAS, badSAS+"The SAS token does not contain the signature field")
	}
	if members.Get("se") == "" {
		return "", expires, newError(BadSAS, badSAS+"The SAS token does not contain the expiry field")
	}
	// A plus sign that was not escaped reads as a space, and neither member has one.
	for _, name := range []string{"sig", "se"} {
		members.Set(name, strings.ReplaceAll(members.Get(name), " ", "+"))
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if expires, err = time.Parse(layout, members.Get("se")); err == nil {
			return members.Encode(), expires, nil
		}
	}
	return "", expires, newError(BadSAS, badSAS+"The expiry field of the SAS token is not a time")
}

func expired(at time.Time) error {
	return newError(Denied, "The SAS token expired at %s. Make a new one that lasts for the whole operation, and start again.",
		at.UTC().Format(time.RFC3339))
}
