package wire

import (
	"net"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
)

// An Outcome is what happened to one request.
type Outcome struct {
	Start      time.Time
	Operation  string // as in Azure's audit log; "Authentication" for a request without a valid token
	APIVersion string
	Vault      string           // the first label of the host
	HSM        bool             // it names a managed HSM
	Resource   string           // ARM resource id of the vault, if the operation has told it
	Object     string           // URL of the object, as far as the request names one
	Detail     string           // as in audit.Record
	Caller     *identity.Caller // nil if there is no valid token
	Address    string           // the caller's IP address
	UserAgent  string
	URI        string // what was asked for, without user info or fragment
	Status     int
	Err        error // why it was refused; may say more than the answer did
}

// AddressOf returns the address in a RemoteAddr, without the port.
func AddressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// Echoable tells whether a client's request id is short and harmless enough to be sent back.
func Echoable(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
