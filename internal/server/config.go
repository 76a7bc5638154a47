package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/release"
)

// Config is the configuration of a server. Its YAML form is what `strongroom serve --config` reads and `strongroom init`
// writes; these comments are its manual. Unknown keys are errors. What is left out has the default named here, which is
// always the safe choice.
type Config struct {
	// Domain is the domain below which everything answers: vaults at <name>.vault.<domain>, the token service at
	// login.<domain>. Required.
	Domain string `yaml:"domain"`

	// Data is the folder of the database and the local files. A relative path counts from the configuration file's
	// folder. It is made with mode 0700. Required.
	Data string `yaml:"data"`

	// Listen are the addresses for HTTPS, each an IP address and a port. Default: "0.0.0.0:443" and "[::]:443".
	Listen []string `yaml:"listen"`

	// Aliases are further domain suffixes below which vaults answer, for sites that point other names here: "vault.azure.net".
	// Tokens for https://<alias> are accepted as well.
	Aliases []string `yaml:"aliases"`

	// HSMAliases are the same for managed HSMs: "managedhsm.azure.net".
	HSMAliases []string `yaml:"hsmAliases"`

	// TLS is the server's certificate.
	TLS TLSConfig `yaml:"tls"`

	// RootKey is the key that protects all others. It must not lie where the data lies, or whoever gets a copy of the one
	// has the other too.
	RootKey RootKeyConfig `yaml:"rootKey"`

	// Audit is the audit log.
	Audit AuditConfig `yaml:"audit"`

	// Issuers are OpenID Connect issuers whose tokens the vaults accept, beside the embedded token service.
	Issuers []IssuerConfig `yaml:"issuers"`

	// ReleaseAuthorities are the attestation authorities that the release policies of keys can name, each an https URL,
	// whose host may begin with "*.". No other is ever contacted. Default: none, and no key is released.
	ReleaseAuthorities []string `yaml:"releaseAuthorities"`

	// ReleaseCA is a PEM file with the authorities that vouch for their HTTPS certificates. Default: the system's.
	ReleaseCA string `yaml:"releaseCA"`

	// Backup is the storage that full backups of managed HSMs go to.
	Backup BackupConfig `yaml:"backup"`

	// ManagedIdentity are the endpoints from which programs on this machine get tokens without a credential of their own.
	ManagedIdentity ManagedIdentityConfig `yaml:"managedIdentity"`

	// Operations is the plain-HTTP listener for /healthz, /readyz, /metrics and, if wanted, /debug/pprof/.
	Operations OperationsConfig `yaml:"operations"`

	// Limits bound what clients can take.
	Limits LimitsConfig `yaml:"limits"`

	// Log is the operational log on standard error.
	Log LogConfig `yaml:"log"`

	// ChallengeTenant is what the challenge of a vault names as tenant: "id" (default) for the tenant's id, or "adfs" for
	// clients that can be made to use this token service in no other way.
	ChallengeTenant string `yaml:"challengeTenant"`

	// Region is the location that vaults report. Default: "local".
	Region string `yaml:"region"`

	dev bool // made by DevConfig: the root key may lie beside the data
}

// TLSConfig names the certificate. With both files empty the installation's local certificate authority issues one, which
// clients must be told to trust (<data>/ca.pem).
type TLSConfig struct {
	// Certificate is a PEM file with the certificate and its chain, leaf first. It is read again when it changes.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file with its private key. Its owner may read it, and its group, for sites that give such keys to a group of
	// their own (ssl-cert); one that everybody can reach, or the group can change, is refused.
	Key string `yaml:"key"`
}

// RootKeyConfig says where the root key comes from. Exactly one member is set.
type RootKeyConfig struct {
	// File holds the key, as `strongroom init` makes it, with mode 0600.
	File string `yaml:"file"`
	// Environment is the name of the variable that holds the key's text. Child processes do not inherit it. Prefer a file: the
	// system keeps a process's first environment for as long as it runs.
	Environment string `yaml:"environment"`
	// PassphraseFile holds a passphrase in its first line, with mode 0600. It may be a pipe.
	PassphraseFile string `yaml:"passphraseFile"`
	// PassphraseEnvironment is the name of the variable that holds a passphrase. The same holds for it.
	PassphraseEnvironment string `yaml:"passphraseEnvironment"`
}

// AuditConfig says where the audit log goes.
type AuditConfig struct {
	// File is the log's file, or "-" for standard output. Default: <data>/audit/audit.jsonl.
	File string `yaml:"file"`
	// Sync is how often written records are forced to the disk. "0s" means each record before its answer leaves.
	// Default: "1s". A killed process loses no record in any case; a power loss loses at most this much.
	Sync *time.Duration `yaml:"sync"`
	// Timeout is how long a request waits for its record to be written before it is answered 503. Default: "5s".
	Timeout time.Duration `yaml:"timeout"`
}

// IssuerConfig is an OpenID Connect issuer.
type IssuerConfig struct {
	// Issuer is its URL, exactly as in the tokens' iss claim. Keys are found through OpenID Connect Discovery.
	Issuer string `yaml:"issuer"`
	// Tenant is for Entra: the tid claim that its tokens must have. It must be the tenant of this installation (strongroom
	// init --tenant) unless federationOnly is set. The claims oid and groups then are object ids of that tenant.
	// Empty, for any other issuer: the object id of a principal is derived from issuer and sub, that of a group from
	// issuer and name (strongroom app outside-id prints them); oid is not looked at, and tid should be missing.
	Tenant string `yaml:"tenant"`
	// Audiences are the aud claims that are accepted from it. At least one.
	Audiences []string `yaml:"audiences"`
	// Algorithms are the signature algorithms that it uses. Default: RS256.
	Algorithms []string `yaml:"algorithms"`
	// CA is a PEM file with the authorities that vouch for its HTTPS certificate. Default: the system's.
	CA string `yaml:"ca"`
	// FederationOnly says that its tokens are no good at a vault and serve only as federated credentials of applications.
	FederationOnly bool `yaml:"federationOnly"`
}

// BackupConfig is the storage that full backups of managed HSMs go to. Who starts a backup or a restore names a container, and this
// server goes there, so only hosts that are known are contacted.
type BackupConfig struct {
	// Hosts are allowed beside Azure's blob storage (<account>.blob.core.windows.net and those of the sovereign clouds): a host,
	// "host:port", or "*.domain" with or without a port for all hosts below a domain. Without a port 443 is meant. There a
	// container is https://<host>/<account>/<container>, too. Default: none; in dev mode this machine's loopback addresses.
	Hosts []string `yaml:"hosts"`
	// CA is a PEM file with the authorities that vouch for the storage's HTTPS certificate. Default: the system's.
	CA string `yaml:"ca"`
	// ManagedIdentity lets callers use this server's own Azure identity for a container instead of a SAS token: what the
	// variables AZURE_CLIENT_ID, AZURE_TENANT_ID and so on name, a workload identity, or the managed identity of the machine. Everyone
	// who may back up or restore a managed HSM then can make the server use it for any container that it reaches. Default: false.
	ManagedIdentity bool `yaml:"managedIdentity"`
}

// ManagedIdentityConfig are the managed-identity endpoints.
type ManagedIdentityConfig struct {
	// Listen is a loopback address and port for plain HTTP. With insecureIMDS it may also be 169.254.169.254:80, where the
	// SDKs look for the instance metadata service, if this machine has that address. Empty: none.
	Listen string `yaml:"listen"`
	// InsecureIMDS serves the shape of Azure's instance metadata service, which asks for no secret: every program on this machine
	// becomes the identity.
	InsecureIMDS bool `yaml:"insecureIMDS"`
	// ArcTokenDirectory is where the shape of Azure Arc leaves its one-time secrets; clients insist on
	// /var/opt/azcmagent/tokens. Empty: that shape is not served.
	ArcTokenDirectory string `yaml:"arcTokenDirectory"`
}

// OperationsConfig is the operators' listener.
type OperationsConfig struct {
	// Listen is a loopback address and port. Default: "127.0.0.1:9443". "-" for none.
	Listen string `yaml:"listen"`
	// InsecureRemote allows an address that is not loopback. What is served there is not authenticated.
	InsecureRemote bool `yaml:"insecureRemote"`
	// Hosts are names by which clients may ask for it, beside localhost and its address: web pages can point names of their
	// own at any address, so that others are refused.
	Hosts []string `yaml:"hosts"`
	// Pprof serves /debug/pprof/ there. A profile slows the server down while it is taken, and shows names of the program's
	// functions, but no data. Default: false; true in dev mode.
	Pprof bool `yaml:"pprof"`
}

// LimitsConfig bounds what clients can take. Zero means the default.
type LimitsConfig struct {
	// Connections at a time. Default: 10000.
	Connections int `yaml:"connections"`
	// ConnectionsPerAddress of one client address. Default: 1000.
	ConnectionsPerAddress int `yaml:"connectionsPerAddress"`
	// RequestsPerPrincipal in flight at a time. Default: 256.
	RequestsPerPrincipal int `yaml:"requestsPerPrincipal"`
	// RequestTime for one request, from its header to its answer. Default: "30s".
	RequestTime time.Duration `yaml:"requestTime"`
	// ShutdownTime for requests that are in flight when the server is told to stop. Default: "30s".
	ShutdownTime time.Duration `yaml:"shutdownTime"`
}

// LogConfig is the operational log.
type LogConfig struct {
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level"`
	// Requests says whether each request gets a line. Default: true.
	Requests *bool `yaml:"requests"`
}

// maxConfig bounds the configuration file.
const maxConfig = 1 << 20

// ReadConfig reads and checks a configuration file. Relative paths in it count from its folder.
func ReadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("configuration: %s is larger than %d bytes", path, maxConfig)
	}
	cfg, err := ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	cfg.resolve(folder)
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// ParseConfig decodes a configuration strictly. An unknown key is an error that names its nearest neighbour.
func ParseConfig(raw []byte) (*Config, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil {
		return nil, err
	}
	if len(node.Content) == 0 {
		return nil, errors.New("the configuration is empty")
	}
	if err := checkNode(node.Content[0], reflect.TypeFor[Config](), ""); err != nil {
		return nil, err
	}
	var cfg Config
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&cfg); err != nil {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the configuration has more than one document")
	}
	return &cfg, nil
}

// checkNode compares node, which path leads to, with t: so that a misspelt key is answered with the right spelling, and a
// value of another kind in the words of the configuration and not of the program.
func checkNode(node *yaml.Node, t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if node.Kind == yaml.AliasNode || node.ShortTag() == "!!null" {
		return nil // what an alias stands for was looked at where it stands; nothing is the default
	}
	wrong := func(want string) error {
		if path == "" {
			return fmt.Errorf("line %d: %s", node.Line, want)
		}
		return fmt.Errorf("line %d: %s: %s", node.Line, path, want)
	}
	switch {
	case t.Kind() == reflect.Struct && node.Kind == yaml.MappingNode:
		return checkKeys(node, t, path)
	case t.Kind() == reflect.Struct:
		return wrong("give settings by their names, such as " + settingNames(t)[0])
	case t.Kind() == reflect.Slice && node.Kind == yaml.SequenceNode:
		for i, element := range node.Content {
			if err := checkNode(element, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return wrong(`give a list of texts, such as ["one", "two"]`)
	case t.Kind() == reflect.Slice:
		return wrong("give a list")
	case node.Decode(reflect.New(t).Interface()) != nil, t.Kind() == reflect.Int && node.ShortTag() != "!!int": // 1.5 would be 1
		return wrong(wanted(t))
	}
	return nil
}

// wanted says what is written for a value of type t.
func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "give a duration such as 30s"
	case t.Kind() == reflect.Bool:
		return "give true or false"
	case t.Kind() == reflect.Int:
		return "give a whole number"
	}
	return "give a text"
}

func checkKeys(node *yaml.Node, t reflect.Type, path string) error {
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			fields[f.Tag.Get("yaml")] = f.Type
		}
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		field, ok := fields[key.Value]
		if !ok {
			return fmt.Errorf("line %d: unknown key %q%s", key.Line, key.Value, nearest(key.Value, settingNames(t)))
		}
		below := key.Value
		if path != "" {
			below = path + "." + key.Value
		}
		if first, again := seen[key.Value]; again {
			return fmt.Errorf("line %d: %s was given already, in line %d", key.Line, below, first)
		}
		seen[key.Value] = key.Line
		if err := checkNode(node.Content[i+1], field, below); err != nil {
			return err
		}
	}
	return nil
}

// settingNames are the keys of a part of the configuration, sorted.
func settingNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			names = append(names, f.Tag.Get("yaml"))
		}
	}
	slices.Sort(names)
	return names
}

func nearest(key string, names []string) string {
	best, least := "", len(key)/2+2
	for _, name := range names {
		d := distance(strings.ToLower(key), strings.ToLower(name))
		if len(key) > 2 && strings.HasPrefix(strings.ToLower(name), strings.ToLower(key)) {
			d = 1 // an abbreviation
		}
		if d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return "; known are " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// resolve makes relative paths absolute and fills in the defaults.
func (c *Config) resolve(folder string) {
	for _, path := range []*string{&c.Data, &c.TLS.Certificate, &c.TLS.Key, &c.RootKey.File, &c.RootKey.PassphraseFile} {
		resolvePath(path, folder)
	}
	if c.Audit.File != "-" {
		resolvePath(&c.Audit.File, folder)
	}
	resolvePath(&c.ReleaseCA, folder)
	resolvePath(&c.Backup.CA, folder)
	for i := range c.Issuers {
		resolvePath(&c.Issuers[i].CA, folder)
		if len(c.Issuers[i].Algorithms) == 0 {
			c.Issuers[i].Algorithms = []string{"RS256"}
		}
	}
	c.Domain = strings.ToLower(strings.TrimSuffix(c.Domain, "."))
	for _, aliases := range [][]string{c.Aliases, c.HSMAliases} {
		for i, alias := range aliases {
			aliases[i] = strings.ToLower(alias)
		}
	}
	for i, host := range c.Operations.Hosts {
		c.Operations.Hosts[i] = strings.ToLower(host)
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{"0.0.0.0:443", "[::]:443"}
	}
	if c.Audit.File == "" && c.Data != "" {
		c.Audit.File = c.defaultAuditFile()
	}
	if c.Audit.Sync == nil {
		second := time.Second
		c.Audit.Sync = &second
	}
	if c.Log.Requests == nil {
		yes := true
		c.Log.Requests = &yes
	}
	setDefault(&c.Audit.Timeout, 5*time.Second)
	setDefault(&c.Operations.Listen, "127.0.0.1:9443")
	setDefault(&c.Limits.Connections, 10000)
	setDefault(&c.Limits.ConnectionsPerAddress, 1000)
	setDefault(&c.Limits.RequestsPerPrincipal, 256)
	setDefault(&c.Limits.RequestTime, 30*time.Second)
	setDefault(&c.Limits.ShutdownTime, 30*time.Second)
	setDefault(&c.Log.Level, "info")
	setDefault(&c.ChallengeTenant, "id")
	setDefault(&c.Region, "local")
}

func resolvePath(path *string, folder string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(folder, *path)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var domainName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$`)

// Check tells everything that is wrong with a configuration, after its defaults were filled in.
func (c *Config) Check() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !domainName.MatchString(c.Domain) || len(c.Domain) > 200 {
		bad("domain: %q is not a domain name", c.Domain)
	}
	if c.Data == "" {
		bad("data: the folder is missing")
	}
	for _, address := range c.Listen {
		if _, err := parseListen(address); err != nil {
			bad("listen: %w", err)
		}
	}
	c.checkAliases(bad)
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		bad("tls: certificate and key belong together")
	}
	if n := c.RootKey.sources(); n != 1 {
		bad("rootKey: exactly one of file, environment, passphraseFile and passphraseEnvironment is needed, not %d", n)
	}
	if err := c.checkKeyPlace(filepath.Clean); err != nil {
		wrong = append(wrong, err)
	}
	if *c.Audit.Sync < 0 || *c.Audit.Sync > time.Minute {
		bad("audit.sync: %v is not between 0s and 1m", *c.Audit.Sync)
	}
	if c.Audit.Timeout < 100*time.Millisecond || c.Audit.Timeout > time.Minute {
		bad("audit.timeout: %v is not between 100ms and 1m", c.Audit.Timeout)
	}
	for i, issuer := range c.Issuers {
		if err := issuer.check(); err != nil {
			bad("issuers[%d]: %w", i, err)
		}
	}
	if _, err := release.NewVerifier(release.Config{Authorities: c.ReleaseAuthorities}); err != nil {
		bad("releaseAuthorities: %w", err)
	}
	if _, err := backup.NewStorage(backup.Config{Hosts: c.Backup.Hosts}); err != nil {
		bad("backup.hosts: %w", err)
	}
	if c.ManagedIdentity.Listen != "" {
		err := checkLoopback(c.ManagedIdentity.Listen)
		if err != nil && !(c.ManagedIdentity.InsecureIMDS && c.ManagedIdentity.Listen == imdsListen) {
			bad("managedIdentity.listen: %w", err)
		}
	}
	if c.Operations.Listen != "-" && !c.Operations.InsecureRemote {
		if err := checkLoopback(c.Operations.Listen); err != nil {
			bad("operations.listen: %w; set operations.insecureRemote if you really want that", err)
		}
	}
	if !c.dev { // there a busy address gives way to a free one
		c.checkAddresses(bad)
	}
	for _, host := range c.Operations.Hosts {
		if !domainName.MatchString(host) {
			bad("operations.hosts: %q is not a host name", host)
		}
	}
	for name, n := range map[string]int{
		"connections": c.Limits.Connections, "connectionsPerAddress": c.Limits.ConnectionsPerAddress,
		"requestsPerPrincipal": c.Limits.RequestsPerPrincipal,
	} {
		if n < 1 || n > 1_000_000 {
			bad("limits.%s: %d is not between 1 and 1000000", name, n)
		}
	}
	for name, d := range map[string]time.Duration{
		"requestTime": c.Limits.RequestTime, "shutdownTime": c.Limits.ShutdownTime,
	} {
		if d < time.Second || d > time.Hour {
			bad("limits.%s: %v is not between 1s and 1h", name, d)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level: %q is not one of debug, info, warn, error", c.Log.Level)
	}
	if !slices.Contains([]string{"id", "adfs"}, c.ChallengeTenant) {
		bad("challengeTenant: %q is neither id nor adfs", c.ChallengeTenant)
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9 -]{1,64}$`).MatchString(c.Region) {
		bad("region: %q is not a name of letters, digits, spaces and hyphens", c.Region)
	}
	return errors.Join(wrong...)
}

func (r RootKeyConfig) sources() (n int) {
	for _, s := range []string{r.File, r.Environment, r.PassphraseFile, r.PassphraseEnvironment} {
		if s != "" {
			n++
		}
	}
	return n
}

func (i IssuerConfig) check() error {
	u, err := url.Parse(i.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("issuer: %q is not an https URL without query", i.Issuer)
	}
	if _, err := uuid.Parse(i.Tenant); i.Tenant != "" && (err != nil || len(i.Tenant) != 36) {
		return fmt.Errorf("tenant: %q is not a GUID; leave it out for an issuer that is not Entra", i.Tenant)
	}
	if len(i.Audiences) == 0 && !i.FederationOnly {
		return errors.New("audiences: at least one is needed")
	}
	for _, alg := range i.Algorithms {
		if !slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"}, alg) {
			return fmt.Errorf("algorithms: %q is not a signature algorithm with public keys", alg)
		}
	}
	return nil
}

// imdsListen is the link-local address at which SDKs expect the instance metadata service.
const imdsListen = "169.254.169.254:80"

// parseListen accepts an IP address and a port; names would depend on who resolves them.
func parseListen(address string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return a, fmt.Errorf("%q is not an IP address and a port, such as 127.0.0.1:8443 or [::1]:8443", address)
	}
	return a, nil
}

func checkLoopback(address string) error {
	a, err := parseListen(address)
	if err != nil {
		return err
	}
	if !a.Addr().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", a.Addr())
	}
	return nil
}

// checkAliases tells which suffixes are none, or would have two meanings.
func (c *Config) checkAliases(bad func(format string, args ...any)) {
	for setting, aliases := range map[string][]string{"aliases": c.Aliases, "hsmAliases": c.HSMAliases} {
		for _, alias := range aliases {
			if !domainName.MatchString(alias) {
				bad("%s: %q is not a domain name", setting, alias)
			}
		}
	}
	for _, suffix := range c.hsmSuffixes() {
		if slices.Contains(c.suffixes(), suffix) {
			bad("hsmAliases: %s is where vaults answer", suffix)
		}
	}
}

// suffixes are the host names below which vaults answer.
func (c *Config) suffixes() []string {
	return append([]string{"vault." + c.Domain}, c.Aliases...)
}

// hsmSuffixes are those below which managed HSMs answer.
func (c *Config) hsmSuffixes() []string {
	return append([]string{"managedhsm." + c.Domain}, c.HSMAliases...)
}

// Merge overlays a configuration with what raw says, as ParseConfig reads it. Nothing in raw changes nothing.
func (c *Config) Merge(raw []byte) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if _, err := ParseConfig(raw); err != nil {
		return err
	}
	if err := yaml.Unmarshal(raw, c); err != nil {
		return err
	}
	c.resolve(c.Data)
	return c.Check()
}
