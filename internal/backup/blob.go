package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
)

// maxRequest bounds a request with all its repetitions, whatever pauses the storage asks for.
const maxRequest = 5 * time.Minute

// tokenScope is what a managed identity needs a token for.
const tokenScope = "https://storage.azure.com/.default"

// credential marks the errors of a credential, and gets no second try within a request: the credential tries itself.
type credential struct{ azcore.TokenCredential }

type tokenError struct{ err error }

func (e *tokenError) Error() string { return e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }
func (e *tokenError) NonRetriable() {}

func (c credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.TokenCredential.GetToken(ctx, options)
	if err != nil {
		return token, &tokenError{err}
	}
	return token, nil
}

func (c *Container) client(name string) (*blockblob.Client, error) {
	options := &blockblob.ClientOptions{ClientOptions: c.options}
	if c.credential != nil {
		return blockblob.NewClient(c.URI(name), c.credential, options)
	}
	return blockblob.NewClientWithNoCredential(c.URI(name), options)
}

// request runs one request on a blob.
func (c *Container) request(ctx context.Context, doing, name string, do func(context.Context, *blockblob.Client) error) error {
	if err := c.checkExpiry(); err != nil {
		return err
	}
	client, err := c.client(name)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, maxRequest)
	defer cancel()
	if err := do(bounded, client); err != nil {
		return c.failure(ctx, doing, err)
	}
	return nil
}

// put writes a blob. With onlyNew the error is errBlobExists if it is there.
func (c *Container) put(ctx context.Context, name string, content []byte, onlyNew bool) error {
	var conditions *blob.AccessConditions
	if onlyNew {
		conditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
	}
	err := c.request(ctx, "writing a blob", name, func(ctx context.Context, client *blockblob.Client) error {
		body := streaming.NopCloser(bytes.NewReader(content))
		_, err := client.Upload(ctx, body, &blockblob.UploadOptions{AccessConditions: conditions})
		return err
	})
	if errors.Is(err, errNoBlob) { // what is to be written cannot be missing
		return c.noContainer()
	}
	return err
}

// errTooLarge tells that a blob is larger than anything that this package writes.
var errTooLarge = errors.New("backup: the blob is too large")

// get reads a blob of at most limit bytes. The error is errNoBlob or errTooLarge where that is so.
func (c *Container) get(ctx context.Context, name string, limit int) (content []byte, err error) {
	large := false
	err = c.request(ctx, "reading a blob", name, func(ctx context.Context, client *blockblob.Client) error {
		resp, err := client.DownloadStream(ctx, nil)
		if err != nil {
			return err
		}
		body := resp.NewRetryReader(ctx, nil)
		defer body.Close()
		var buf bytes.Buffer
		if size := resp.ContentLength; size != nil && *size >= 0 && *size <= int64(limit) {
			buf.Grow(int(*size) + bytes.MinRead) // else it is doubled again and again
		}
		_, err = buf.ReadFrom(io.LimitReader(body, int64(limit)+1))
		content, large = buf.Bytes(), buf.Len() > limit
		return err
	})
	if err == nil && large {
		err = errTooLarge
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

func (c *Container) remove(ctx context.Context, name string) error {
	return c.request(ctx, "deleting a blob", name, func(ctx context.Context, client *blockblob.Client) error {
		_, err := client.Delete(ctx, nil)
		return err
	})
}

// listPipeline sends the one request that the library has only in a package that brings 46 others, for a format of lists
// that we do not ask for.
func (c *Container) listPipeline() runtime.Pipeline {
	var perRetry []policy.Policy
	if c.credential != nil {
		perRetry = []policy.Policy{runtime.NewBearerTokenPolicy(c.credential, []string{tokenScope}, nil)}
	}
	return runtime.NewPipeline("backup", "v1", runtime.PipelineOptions{PerRetry: perRetry}, &c.options)
}

// listPage is how many names a request asks for.
const listPage = 1000

type page struct {
	Names []string `xml:"Blobs>Blob>Name"`
	Next  string   `xml:"NextMarker"`
}

// list returns some names that begin with prefix, and where to go on; next is "" at the end.
func (c *Container) list(ctx context.Context, prefix, marker string) (names []string, next string, err error) {
	if err := c.checkExpiry(); err != nil {
		return nil, "", err
	}
	bounded, cancel := context.WithTimeout(ctx, maxRequest)
	defer cancel()
	req, err := runtime.NewRequest(bounded, http.MethodGet, c.base)
	if err != nil {
		return nil, "", err
	}
	query := url.Values{"restype": {"container"}, "comp": {"list"}, "prefix": {prefix}, "maxresults": {strconv.Itoa(listPage)}}
	if marker != "" {
		query.Set("marker", marker)
	}
	req.Raw().URL.RawQuery = query.Encode()
	resp, err := c.pipeline.Do(req)
	if err == nil && !runtime.HasStatusCode(resp, http.StatusOK) {
		err = runtime.NewResponseError(resp)
	}
	if err != nil {
		err = c.failure(ctx, "listing", err)
		if errors.Is(err, errNoBlob) {
			err = c.noContainer()
		}
		return nil, "", err
	}
	var p page
	if err := runtime.UnmarshalAsXML(resp, &p); err != nil {
		return nil, "", newError(Unavailable, "The storage %s answers with something else than a list. Check that the address is that of a blob container.", c.host)
	}
	return p.Names, p.Next, nil
}

// Discard removes what an unfinished backup left behind. It does nothing to a finished one.
func (c *Container) Discard(ctx context.Context, s State) error {
	if err := s.check(); err != nil {
		return err
	}
	_, err := c.get(ctx, s.Folder+"/"+manifestName, maxManifest)
	if !errors.Is(err, errNoBlob) {
		return err
	}
	for _, kind := range []blobKind{dataBlob, indexBlob} {
		if err := c.removeAll(ctx, s.Folder+"/"+string(kind)+"/"); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) removeAll(ctx context.Context, prefix string) error {
	for marker := ""; ; {
		names, next, err := c.list(ctx, prefix, marker)
		if err != nil {
			return err
		}
		for _, name := range names {
			// The list is the storage's word; nothing outside of the folder is touched because of it.
			if !blobPattern.MatchString(name[min(len(prefix), len(name)):]) || name[:min(len(prefix), len(name))] != prefix {
				continue
			}
			if err := c.remove(ctx, name); err != nil && !errors.Is(err, errNoBlob) {
				return err
			}
		}
		if next == "" || next == marker {
			return nil
		}
		marker = next
	}
}
