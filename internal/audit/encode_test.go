package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// line is a record as another program reads it.
type line struct {
	Time              string `json:"time"`
	ResourceID        string `json:"resourceId"`
	OperationName     string `json:"operationName"`
	OperationVersion  string `json:"operationVersion"`
	Category          string `json:"category"`
	ResultType        string `json:"resultType"`
	ResultSignature   string `json:"resultSignature"`
	ResultDescription string `json:"resultDescription"`
	DurationMs        string `json:"durationMs"`
	CallerIPAddress   string `json:"callerIpAddress"`
	CorrelationID     string `json:"correlationId"`
	Identity          struct {
		Claim map[string]string `json:"claim"`
	} `json:"identity"`
	Properties struct {
		ClientInfo string `json:"clientInfo"`
		RequestURI string `json:"requestUri"`
		ID         string `json:"id"`
		Status     int    `json:"httpStatusCode"`
		Detail     string `json:"detail"`
	} `json:"properties"`
	Chain struct {
		Seq  uint64 `json:"seq"`
		Prev string `json:"prev"`
	} `json:"chain"`
}

// decode reads one line strictly.
func decode(t *testing.T, b []byte) line {
	t.Helper()
	var l line
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		t.Fatalf("%v in %q", err, b)
	}
	return l
}

func sample() Record {
	return Record{
		Time:            time.Date(2026, 3, 4, 5, 6, 7, 89012345, time.FixedZone("", 3600)),
		ResourceID:      "/subscriptions/5f/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/v1",
		Operation:       "SecretGet",
		APIVersion:      "7.6",
		ResultType:      Success,
		ResultSignature: "OK",
		Duration:        78*time.Millisecond + 900*time.Microsecond,
		CallerIP:        "192.0.2.7",
		CorrelationID:   "0c1b2a39-4857-4675-8493-a2b1c0dfeeed",
		ObjectID:        "6d0f4c1e-0000-4000-8000-000000000001",
		UPN:             "ada@example.org",
		AppID:           "6d0f4c1e-0000-4000-8000-000000000002",
		ClientInfo:      "azsdk-go-azsecrets/v1.5.1 (go1.26; linux)",
		RequestURI:      "https://v1.vault.example/secrets/web?api-version=7.6",
		ID:              "https://v1.vault.example/secrets/web/3f",
		HTTPStatus:      200,
	}
}

func encode(r Record) string {
	return string(appendChain(appendRecord(nil, &r, r.Time), 1, nil))
}

func TestGoldenLines(t *testing.T) {
	t.Parallel()
	bare := Record{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Operation: "KeyCreate", Category: Intent}
	detailed := bare
	detailed.Detail = `principal 6d0f4c1e "x"`
	hostile := bare
	hostile.Category = ""
	hostile.ResourceID = "/ünder\"a\\\n"
	hostile.AppID = "a\u2028b\u2029\u0085\x7f\x00\xffé😀</script>"
	hostile.Duration = -time.Second
	for name, test := range map[string]struct {
		record Record
		want   string
	}{
		"full": {sample(), `{"time":"2026-03-04T04:06:07.0890123Z",` +
			`"resourceId":"/SUBSCRIPTIONS/5F/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V1",` +
			`"operationName":"SecretGet","operationVersion":"7.6","category":"AuditEvent","resultType":"Success",` +
			`"resultSignature":"OK","resultDescription":"","durationMs":"78","callerIpAddress":"192.0.2.7",` +
			`"correlationId":"0c1b2a39-4857-4675-8493-a2b1c0dfeeed","identity":{"claim":{` +
			`"http://schemas.microsoft.com/identity/claims/objectidentifier":"6d0f4c1e-0000-4000-8000-000000000001",` +
			`"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn":"ada@example.org",` +
			`"appid":"6d0f4c1e-0000-4000-8000-000000000002"}},` +
			`"properties":{"clientInfo":"azsdk-go-azsecrets/v1.5.1 (go1.26; linux)",` +
			`"requestUri":"https://v1.vault.example/secrets/web?api-version=7.6",` +
			`"id":"https://v1.vault.example/secrets/web/3f","httpStatusCode":200},"chain":{"seq":1,"prev":""}}`},
		"intent": {bare, `{"time":"2026-01-02T03:04:05.0000000Z","resourceId":"","operationName":"KeyCreate",` +
			`"operationVersion":"","category":"AuditIntent","resultType":"","resultSignature":"","resultDescription":"",` +
			`"durationMs":"0","callerIpAddress":"","correlationId":"","identity":{"claim":{}},` +
			`"properties":{"clientInfo":"","requestUri":"","id":""},"chain":{"seq":1,"prev":""}}`},
		"detail": {detailed, `{"time":"2026-01-02T03:04:05.0000000Z","resourceId":"","operationName":"KeyCreate",` +
			`"operationVersion":"","category":"AuditIntent","resultType":"","resultSignature":"","resultDescription":"",` +
			`"durationMs":"0","callerIpAddress":"","correlationId":"","identity":{"claim":{}},` +
			`"properties":{"clientInfo":"","requestUri":"","id":"","detail":"principal 6d0f4c1e \"x\""},"chain":{"seq":1,"prev":""}}`},
		"hostile": {hostile, `{"time":"2026-01-02T03:04:05.0000000Z","resourceId":"/üNDER\"A\\\n",` +
			`"operationName":"KeyCreate","operationVersion":"","category":"AuditEvent","resultType":"",` +
			`"resultSignature":"","resultDescription":"","durationMs":"0","callerIpAddress":"","correlationId":"",` +
			`"identity":{"claim":{"appid":"a\u2028b\u2029\u0085\u007f\u0000` + "\ufffd" + `é😀</script>"}},` +
			`"properties":{"clientInfo":"","requestUri":"","id":""},"chain":{"seq":1,"prev":""}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, encode(test.record)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestPlainFindsEveryByteToEscape(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		want := c >= 0x20 && c < 0x7f && c != '"' && c != '\\'
		for at := range 11 {
			for _, fill := range []byte{' ', '~', '!', '#', '[', ']'} {
				b := bytes.Repeat([]byte{fill}, 11)
				b[at] = byte(c)
				if plain(b) != want {
					t.Fatalf("plain(%q) = %t", b, !want)
				}
			}
		}
	}
}

func TestUpperCase(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 19 {
			b := bytes.Repeat([]byte{'q'}, 19)
			b[at] = byte(c)
			want := strings.ToValidUTF8(upperASCII(string(b)), "\ufffd")
			if got := decode(t, []byte(encode(Record{ResourceID: string(b)}))).ResourceID; got != want {
				t.Fatalf("%q became %q", b, got)
			}
		}
	}
}

func TestLongStringsAreCutAndTheLineStaysShort(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"a", "é", "😀", "\x00", "\xff", `"`, "\u2028", "a😀\x01"} {
		s := strings.Repeat(unit, 40_000)
		r := Record{
			Time: time.Unix(1e9, 0), ResourceID: s, Operation: s, APIVersion: s, Category: Category(s), ResultType: s,
			ResultSignature: s, ResultDescription: s, Duration: math.MaxInt64, CallerIP: s, CorrelationID: s, ObjectID: s,
			UPN: s, AppID: s, ClientInfo: s, RequestURI: s, ID: s, HTTPStatus: math.MinInt64, Detail: s,
		}
		var prev sum
		b := appendChain(appendRecord(nil, &r, r.Time), math.MaxUint64, &prev)
		if len(b) > MaxLine {
			t.Errorf("%q: the line has %d bytes", unit, len(b))
		}
		l := decode(t, b)
		uri, ok := strings.CutSuffix(l.Properties.RequestURI, cutMark)
		if !ok || !strings.HasPrefix(strings.ToValidUTF8(s, "\ufffd"), uri) && unit != "\xff" || !utf8.ValidString(uri) {
			t.Errorf("%q: cut to %q", unit, l.Properties.RequestURI)
		}
		if !strings.HasSuffix(l.ResourceID, cutMark) {
			t.Errorf("%q: resource id cut to %q", unit, l.ResourceID)
		}
	}
	exact := strings.Repeat("x", maxAppID)
	if got := decode(t, []byte(encode(Record{AppID: exact}))).Identity.Claim["appid"]; got != exact {
		t.Errorf("a string of the maximum came back as %q", got)
	}
}

func TestParseChainAcceptsOnlyWhatIsWritten(t *testing.T) {
	t.Parallel()
	a := strings.Repeat("A", sumText)
	for text, want := range map[string]uint64{
		`{,"chain":{"seq":1,"prev":""}}`:                                      1,
		`{,"chain":{"seq":2,"prev":"` + a + `"}}`:                             2,
		`{,"chain":{"seq":18446744073709551615,"prev":"` + a + `"}}`:          1<<64 - 1,
		`{,"chain":{"seq":1,"prev":""},"chain":{"seq":3,"prev":"` + a + `"}}`: 3,
		`{,"chain":{"seq":18446744073709551616,"prev":"` + a + `"}}`:          0,
		`{,"chain":{"seq":0,"prev":""}}`:                                      0,
		`{,"chain":{"seq":01,"prev":""}}`:                                     0,
		`{,"chain":{"seq":+1,"prev":""}}`:                                     0,
		`{,"chain":{"seq":,"prev":""}}`:                                       0,
		`{,"chain":{"seq":1,"prev":"` + a + `"}}`:                             0,
		`{,"chain":{"seq":2,"prev":""}}`:                                      0,
		`{,"chain":{"seq":2,"prev":"` + a + `A"}}`:                            0,
		`{,"chain":{"seq":2,"prev":"` + a[1:] + `B"}}`:                        0,
		`{,"chain":{"seq":2,"prev":"` + a[1:] + "\r" + `"}}`:                  0,
		`{,"chain":{"seq":2,"prev":"` + a[1:] + `+"}}`:                        0,
		`{,"chain":{"seq":2,"prev":"` + a + `"}} `:                            0,
		`{,"chain":{"seq":2,"prev":"` + a + `"},"x":{}}`:                      0,
		`{}`: 0,
	} {
		seq, prev, ok := parseChain([]byte(text))
		if ok != (want > 0) || seq != want && ok || ok && want > 1 && string(prev) != a {
			t.Errorf("%s: %d, %s, %t", text, seq, prev, ok)
		}
	}
}

func TestTimeIsAlwaysReadable(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		{}, time.Unix(0, 999_999_999), time.Unix(1<<40, 0), time.Unix(-1<<40, 0),
		time.Date(0, 2, 29, 1, 1, 1, 1, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 1e9-1, time.UTC),
	} {
		want := at.UTC()
		if want.Year() < 1 || want.Year() > 9999 {
			want = time.Time{}
		}
		if got := string(appendTime(nil, at)); got != want.Format(timeLayout) {
			t.Errorf("%v: %s, want %s", at, got, want.Format(timeLayout))
		}
	}
}

func FuzzEncoder(f *testing.F) {
	f.Add("/subscriptions/a", "SecretGet", "oid", "agent", "https://v/secrets/a?x=1", "id", int64(1), int64(5), 200)
	f.Add("\xff\"\\", "\x00\n\r\t\b", "", "\u2028é", strings.Repeat("😀", 1100), `\u0041`, int64(-1), int64(-1), -7)
	f.Fuzz(func(t *testing.T, resource, operation, oid, agent, uri, id string, unix, dur int64, status int) {
		r := Record{
			Time: time.Unix(unix, 0), ResourceID: resource, Operation: operation, ObjectID: oid, ClientInfo: agent,
			RequestURI: uri, ID: id, Duration: time.Duration(dur), HTTPStatus: status,
		}
		b := []byte(encode(r))
		if len(b) > MaxLine || bytes.ContainsAny(b, "\n\r\u2028\u2029") || !utf8.Valid(b) {
			t.Fatalf("not one line: %q", b)
		}
		if seq, _, ok := parseLine(b); !ok || seq != 1 {
			t.Fatalf("the chain is not found in %q", b)
		}
		l := decode(t, b)
		checkString(t, uri, l.Properties.RequestURI, maxURI)
		checkString(t, agent, l.Properties.ClientInfo, maxClientInfo)
		checkString(t, operation, l.OperationName, maxOperation)
		checkString(t, oid, l.Identity.Claim["http://schemas.microsoft.com/identity/claims/objectidentifier"], maxObjectID)
		checkString(t, upperASCII(resource), l.ResourceID, maxResourceID)
		checkString(t, id, l.Properties.ID, maxID)
		if l.Properties.Status != status {
			t.Errorf("status %d became %d", status, l.Properties.Status)
		}
	})
}

// upperASCII is the plain way to do what upper does in place.
func upperASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 32
		}
	}
	return string(b)
}

// checkString compares a string with what was read back, which may have been cut.
func checkString(t *testing.T, given, got string, limit int) {
	t.Helper()
	want := string([]rune(given)) // each invalid byte becomes U+FFFD
	if want == got {
		return
	}
	kept, cut := strings.CutSuffix(got, cutMark)
	if !cut || !strings.HasPrefix(want, kept) {
		t.Errorf("%q became %q", given, got)
	}
	if 6*len(want) <= limit {
		t.Errorf("%q was cut without need", given)
	}
}
