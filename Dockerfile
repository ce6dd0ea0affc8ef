# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm AS build
WORKDIR /src
# The packages first, so that a change of the sources does not install them anew.
COPY deploy/packages.txt deploy/common.sh deploy/install_packages.sh deploy/
RUN deploy/install_packages.sh build
COPY . .
RUN cmake --preset release -DMNEME_BUILD_TESTS=OFF -DMNEME_BUILD_BENCH=OFF \
 && cmake --build build/release --parallel "$(nproc)" --target mnemed mneme mneme-mkmodel

FROM debian:bookworm-slim
COPY deploy/packages.txt deploy/common.sh deploy/install_packages.sh /tmp/deploy/
RUN /tmp/deploy/install_packages.sh runtime \
 && rm -rf /tmp/deploy /var/lib/apt/lists/* \
 && useradd --system --uid 7600 --user-group --home-dir /var/lib/mneme --create-home \
      --shell /usr/sbin/nologin mneme
COPY --from=build /src/build/release/bin/mnemed /src/build/release/bin/mneme \
     /src/build/release/bin/mneme-mkmodel /usr/local/bin/

# oneDNN's idle OpenMP threads sleep instead of taking the cores from our own.
ENV OMP_WAIT_POLICY=passive
USER mneme
WORKDIR /var/lib/mneme
# The one place for what should stay; the rest may be read-only.
ENV STATE_DIRECTORY=/var/lib/mneme/sessions
VOLUME ["/var/lib/mneme"]
# 7600: gRPC. 7601: Prometheus metrics. Operators are served inside only.
EXPOSE 7600 7601
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["mneme", "health"]
# Arguments of docker run go to mnemed: --model NAME=DIR and what else it takes.
ENTRYPOINT ["mnemed", "--listen", "0.0.0.0:7600", "--metrics-listen", "0.0.0.0:7601"]
