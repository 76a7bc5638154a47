package api

import (
	"net/http"
	"net/url"

	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §13. What is in value and transfer_key is JSON in a string.

type securityDomain struct {
	Value string `json:"value"`
}

type transferKey struct {
	Format string `json:"key_format"`
	Key    string `json:"transfer_key"`
}

type domainStatus struct {
	Status  string `json:"status"`
	Details string `json:"status_details"`
}

// Where the status of either operation is asked for. Some clients ask for that of an upload after a download, so both paths answer
// the same.
const (
	downloadPending = "/securitydomain/download/pending"
	uploadPending   = "/securitydomain/upload/pending"
)

// pending says where a client finds out how the operation goes on.
func (q *request) pending(path string) {
	q.w.Header()["Azure-Asyncoperation"] = []string{q.base + path + "?api-version=" + url.QueryEscape(q.outcome.APIVersion)}
}

// hsmBody is body for the operations of package managedhsm.
func (q *request) hsmBody() (wire.Object, error) {
	if err := q.h.cfg.HSMs.Authorize(q.ctx, q.caller, q.vault, q.route.Operation); err != nil {
		return wire.Object{}, err
	}
	return q.readBody()
}

func downloadSecurityDomain(q *request) (response, error) {
	body, err := q.hsmBody()
	if err != nil {
		return response{}, err
	}
	certs, required, err := readOwners(body)
	if err != nil {
		return response{}, err
	}
	q.outcome.Detail = managedhsm.DescribeDownload(certs, required)
	file, err := q.h.cfg.HSMs.Download(q.ctx, q.caller, q.vault, certs, required)
	if err != nil {
		return response{}, err
	}
	q.pending(downloadPending)
	return jsonResponse(http.StatusAccepted, securityDomain{string(file)})
}

// readOwners reads the certificates of those who will be able to open the file, and how many of them have to come together.
func readOwners(body wire.Object) (certs []sdomain.Certificate, required int, err error) {
	keys, err := body.Objects("certificates")
	if err != nil {
		return nil, 0, err
	}
	if len(keys) > sdomain.MaxCertificates { // before they are read: each takes its time
		return nil, 0, badParameter("%d certificates are too many: there must be %d to %d.", len(keys), sdomain.MinCertificates, sdomain.MaxCertificates)
	}
	for i, o := range keys {
		jwk, err := readCertificate(o)
		if err != nil {
			return nil, 0, err
		}
		c, err := sdomain.CertificateFromJWK(jwk)
		if err != nil {
			return nil, 0, badParameter("%s[%d] %v.", body.Path("certificates"), i, err)
		}
		certs = append(certs, c)
	}
	n, err := body.Integer("required")
	if err != nil {
		return nil, 0, err
	}
	required = sdomain.MinQuorum
	if n != nil {
		required = int(*n)
	}
	return certs, required, nil
}

// readCertificate reads what counts of a certificate's JWK. Other members say what follows from these.
func readCertificate(o wire.Object) (k sdomain.JWK, err error) {
	for name, member := range map[string]*string{"kty": &k.Kty, "n": &k.N, "e": &k.E, "x5t": &k.X5T, "x5t#S256": &k.X5TS256} {
		if *member, err = o.TextOrNone(name); err != nil {
			return k, err
		}
	}
	k.X5C, err = o.Strings("x5c")
	return k, err
}

func getTransferKey(q *request) (response, error) {
	jwk, err := q.h.cfg.HSMs.TransferKey(q.ctx, q.caller, q.vault, q.vault+"."+q.suffix)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, transferKey{"jwk", jwk})
}

func uploadSecurityDomain(q *request) (response, error) {
	body, err := q.hsmBody()
	if err != nil {
		return response{}, err
	}
	blob, err := body.Required("value")
	if err != nil {
		return response{}, err
	}
	domain, err := q.h.cfg.HSMs.Upload(q.ctx, q.caller, q.vault, []byte(blob))
	if err != nil {
		return response{}, err
	}
	q.outcome.Detail = managedhsm.DescribeUpload(domain)
	q.pending(uploadPending)
	return jsonResponse(http.StatusAccepted, domainStatus{"InProgress", "The Security Domain is being restored."})
}

var errNoDomain = &wireError{http.StatusNotFound, "NotFound", "", "No security domain has been downloaded or uploaded yet: " +
	"download one or upload one, which makes the managed HSM active."}

func securityDomainStatus(path string) handler {
	return func(q *request) (response, error) {
		state, err := q.h.cfg.HSMs.Status(q.ctx, q.caller, q.vault, q.route.Operation)
		if err != nil {
			return response{}, err
		}
		if state != managedhsm.Done {
			return response{}, errNoDomain
		}
		q.pending(path)
		return jsonResponse(http.StatusOK, domainStatus{"Success", "The resource is active."})
	}
}
