package securitydomain

// BeginDownloadOptions are the optional parameters of Client.BeginDownload.
type BeginDownloadOptions struct {
	// SkipActivationPolling makes the poller be done at once, with the security domain, while the HSM is still being activated.
	SkipActivationPolling bool
}

// BeginUploadOptions are the optional parameters of Client.BeginUpload.
type BeginUploadOptions struct {
	// SkipActivationPolling makes the poller be done at once, while the HSM is still being activated.
	SkipActivationPolling bool

	// ResumeToken is of a poller of an earlier BeginUpload. Nothing is sent again then.
	ResumeToken string
}

// GetDownloadStatusOptions are the optional parameters of Client.GetDownloadStatus.
type GetDownloadStatusOptions struct{}

// GetTransferKeyOptions are the optional parameters of Client.GetTransferKey.
type GetTransferKeyOptions struct{}

// GetUploadStatusOptions are the optional parameters of Client.GetUploadStatus.
type GetUploadStatusOptions struct{}

// DownloadResponse is the result of Client.BeginDownload.
type DownloadResponse struct{ SecurityDomain }

// UploadResponse is the result of Client.BeginUpload.
type UploadResponse struct{}

// GetDownloadStatusResponse is the result of Client.GetDownloadStatus.
type GetDownloadStatusResponse struct{ OperationStatus }

// GetTransferKeyResponse is the result of Client.GetTransferKey.
type GetTransferKeyResponse struct{ TransferKey }

// GetUploadStatusResponse is the result of Client.GetUploadStatus.
type GetUploadStatusResponse struct{ OperationStatus }
